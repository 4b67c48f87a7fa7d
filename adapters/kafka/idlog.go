package kafka

import (
	"encoding/binary"
	"fmt"

	"github.com/hapax-go/hapax/dedup"
)

// A record of the log of processed IDs has the IDs that one transaction has
// processed of one partition, or some of them:
//
//	version 1 byte = 1 | count uvarint | count × (16 bytes ID, 4 bytes digest)
//
// The record's timestamp is when they were processed.
const (
	logVersion = 1
	logEntry   = 20
)

// maxLogged is how many IDs a record may have, where a message has at most so many bytes.
func maxLogged(payload int) int { return max(payload/logEntry, 1) }

func appendIDs(buffer []byte, entries []*dedup.Entry) []byte {
	buffer = append(buffer, logVersion)
	buffer = binary.AppendUvarint(buffer, uint64(len(entries)))
	for _, entry := range entries {
		short := fingerprint(entry.Digest)
		buffer = append(append(buffer, entry.ID[:]...), short[:]...)
	}
	return buffer
}

// readIDs calls add for each ID of a record.
func readIDs(value []byte, add func(id dedup.ID, digest [4]byte) error) error {
	if len(value) == 0 || value[0] != logVersion {
		return fmt.Errorf("read processed IDs: unknown version, expected %d: was the log written by a newer version, or by something else?", logVersion)
	}
	count, n := binary.Uvarint(value[1:])
	if rest := value[1+max(n, 0):]; n <= 0 || uint64(len(rest)) != count*logEntry {
		return fmt.Errorf("read processed IDs: a record of %d bytes does not hold %d IDs", len(value), count)
	}
	for at := 1 + n; at < len(value); at += logEntry {
		if err := add(dedup.ID(value[at:at+16]), [4]byte(value[at+16:at+20])); err != nil {
			return err
		}
	}
	return nil
}
