package codec

import (
	"bytes"
	"fmt"
	"reflect"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Raw hands []byte and string (and types made of them) over as they are.
var Raw Codec = rawCodec{}

type rawCodec struct{}

func (rawCodec) Name() string        { return "raw" }
func (rawCodec) ContentType() string { return "application/octet-stream" }

func (rawCodec) Check(t reflect.Type) error {
	if t.Kind() == reflect.String || isBytes(t) {
		return nil
	}
	return fmt.Errorf("raw hands over []byte or string, not %s: take one of them, or another codec", t)
}

func (c rawCodec) Marshal(value any, _ Output) ([]byte, map[string]string, error) {
	switch value := value.(type) {
	case []byte:
		return bytes.Clone(value), nil, nil
	case string:
		return []byte(value), nil, nil
	}
	v := reflect.ValueOf(value)
	switch {
	case !v.IsValid():
		return nil, nil, fmt.Errorf("raw hands over []byte or string, not nil")
	case v.Kind() == reflect.String:
		return []byte(v.String()), nil, nil
	case isBytes(v.Type()):
		return bytes.Clone(v.Bytes()), nil, nil
	}
	return nil, nil, c.Check(v.Type())
}

// Unmarshal copies the payload: a handler may write into its []byte, and the
// next attempt must find the payload as it was delivered.
func (c rawCodec) Unmarshal(msg *message.Message, into any) error {
	switch into := into.(type) {
	case *[]byte:
		*into = append([]byte{}, msg.Payload...)
		return nil
	case *string:
		*into = string(msg.Payload)
		return nil
	}
	target := reflect.ValueOf(into)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		return fmt.Errorf("raw reads into a pointer to []byte or string, not %T", into)
	}
	target = target.Elem()
	if err := c.Check(target.Type()); err != nil {
		return err
	}
	if target.Kind() == reflect.String {
		target.SetString(string(msg.Payload))
	} else {
		target.SetBytes(append([]byte{}, msg.Payload...))
	}
	return nil
}

func isBytes(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}
