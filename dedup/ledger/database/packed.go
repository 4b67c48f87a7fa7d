package database

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"sort"

	"github.com/hapax-go/hapax/dedup"
)

// A packed mark is ID, digest, token and expiry (48 bits of milliseconds). Those
// of a bucket stand in the order of their IDs, and the bucket of an ID is given
// by its first bits, so that a lookup reads one row.
const (
	packedSize  = 16 + 16 + 8 + 6
	bucketMarks = 24 // a row of about a kilobyte
	bucketBits  = 24 // of a place; the rest is the run's number
	maxBuckets  = 1 << bucketBits
)

// bucketsFor is a power of two.
func bucketsFor(marks int64) int {
	n := max(marks/bucketMarks, 1)
	return min(1<<bits.Len64(uint64(n-1)), maxBuckets)
}

func bucketOf(id dedup.ID, buckets int) int {
	return int(uint64(binary.BigEndian.Uint32(id[:4])) * uint64(buckets) >> 32)
}

// firstOf is the smallest ID of a bucket.
func firstOf(bucket, buckets int) (id dedup.ID) {
	binary.BigEndian.PutUint32(id[:4], uint32(uint64(bucket)<<32/uint64(buckets)))
	return id
}

// lastOf is the largest ID of a bucket.
func lastOf(bucket, buckets int) (id dedup.ID) {
	binary.BigEndian.PutUint32(id[:4], uint32(uint64(bucket+1)<<32/uint64(buckets)-1))
	copy(id[4:], bytes.Repeat([]byte{0xff}, 12))
	return id
}

// placeOf is the key of a bucket's row.
func placeOf(run int64, bucket int) int64 { return run<<bucketBits | int64(bucket) }

func pack(to []byte, id dedup.ID, mark row) []byte {
	to = append(to, id[:]...)
	to = append(to, mark.digest[:]...)
	to = binary.BigEndian.AppendUint64(to, mark.token)
	var expiry [8]byte
	binary.BigEndian.PutUint64(expiry[:], uint64(mark.expires))
	return append(to, expiry[2:]...)
}

// searchPacked finds the mark of an ID in a bucket.
func searchPacked(packed []byte, id dedup.ID) row {
	at := func(i int) []byte { return packed[i*packedSize : (i+1)*packedSize] }
	count := len(packed) / packedSize
	i := sort.Search(count, func(i int) bool { return bytes.Compare(at(i)[:16], id[:]) >= 0 })
	if i == count || dedup.ID(at(i)[:16]) != id {
		return row{}
	}
	mark := at(i)
	var expiry [8]byte
	copy(expiry[2:], mark[40:46])
	return row{
		found: true, marked: true, digest: dedup.Digest(mark[16:32]),
		token: binary.BigEndian.Uint64(mark[32:40]), expires: int64(binary.BigEndian.Uint64(expiry[:])),
	}
}
