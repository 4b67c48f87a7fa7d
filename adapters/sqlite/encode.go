package sqlite

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
)

// notText marks a metadata name that is, with its value, kept as base64: JSON has
// text only, and metadata may be any bytes.
const notText = "hapax_base64:"

// encodeMetadata writes metadata as a JSON object, with the time of publication
// added where there is none. The caller's map is not touched.
func encodeMetadata(metadata message.Metadata, now time.Time) string {
	stored := make(message.Metadata, len(metadata)+1)
	stored[dedup.MetaPublishedAt] = now.UTC().Format(time.RFC3339Nano)
	for name, value := range metadata {
		switch {
		case value == "" && name == dedup.MetaPublishedAt:
		case utf8.ValidString(name) && utf8.ValidString(value):
			stored[name] = value
		default:
			stored[notText+base64.StdEncoding.EncodeToString([]byte(name))] = base64.StdEncoding.EncodeToString([]byte(value))
		}
	}
	encoded, _ := json.Marshal(stored) // a map of strings always encodes
	return string(encoded)
}

func decodeMetadata(encoded string) message.Metadata {
	metadata := message.Metadata{}
	_ = json.Unmarshal([]byte(encoded), &metadata) // encodeMetadata wrote it
	for name, value := range metadata {
		if original, coded := strings.CutPrefix(name, notText); coded {
			delete(metadata, name)
			decodedName, _ := base64.StdEncoding.DecodeString(original)
			decodedValue, _ := base64.StdEncoding.DecodeString(value)
			metadata[string(decodedName)] = string(decodedValue)
		}
	}
	return metadata
}

// most is how many rows a statement gets at once. The fewer different statement
// texts there are, the more of them are found in the writer's cache: the number
// of rows is always a power of two.
const most = 64

// insertMany runs an INSERT over n rows of some columns; fill sets the arguments
// of row i.
func insertMany(ctx context.Context, tx *sql.Tx, insert string, n, columns int, fill func(args []any, i int)) error {
	args := make([]any, min(n, most)*columns)
	for done, size := 0, most; done < n; {
		for size > n-done {
			size /= 2
		}
		for i := range size {
			fill(args[i*columns:(i+1)*columns], done+i)
		}
		if _, err := tx.ExecContext(ctx, many(insert, size, columns), args[:size*columns]...); err != nil {
			return err
		}
		done += size
	}
	return nil
}

type manyKey struct {
	insert        string
	rows, columns int
}

// statements caches the texts of many, which are few and long.
var statements sync.Map // manyKey → string

func many(insert string, rows, columns int) string {
	key := manyKey{insert, rows, columns}
	if text, known := statements.Load(key); known {
		return text.(string)
	}
	one := "(?" + strings.Repeat(",?", columns-1) + ")"
	text := insert + one + strings.Repeat(","+one, rows-1)
	statements.Store(key, text)
	return text
}
