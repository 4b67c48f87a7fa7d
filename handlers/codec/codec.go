package codec

import (
	"reflect"

	"github.com/ThreeDotsLabs/watermill/message"
	"google.golang.org/protobuf/proto"
)

// Codec turns values into payloads and back. Implementations are safe for
// concurrent use, and write equal values as equal bytes.
type Codec interface {
	// Name names the codec in errors and logs: "json".
	Name() string

	// ContentType is the media type of the payloads: "application/json".
	ContentType() string

	// Check reports why values of a type can never be read or written. It is
	// asked once, when a handler is registered, so that a wrong pairing stops
	// the service instead of sending every message to the dead letters.
	Check(t reflect.Type) error

	// Marshal returns the payload of a value, and metadata that belongs to it
	// (may be nil).
	Marshal(value any, output Output) (payload []byte, metadata map[string]string, err error)

	// Unmarshal fills in what into points to. It keeps no part of the payload
	// and does not change the message.
	Unmarshal(msg *message.Message, into any) error
}

// Output is what is known about a message while its payload is being written.
type Output struct {
	// ID returns the event ID that the message will carry. A codec that writes
	// the ID into the message calls it; the message is then sent under exactly
	// this ID. An error when there is no stable ID to be had.
	ID func() (string, error)
}

// Default returns the codec for a value's type when none was chosen: Raw for
// []byte and string, Proto for protobuf messages, JSON for all else.
func Default(value any) Codec {
	switch value.(type) {
	case []byte, string:
		return Raw
	case proto.Message:
		return Proto
	default:
		return JSON
	}
}
