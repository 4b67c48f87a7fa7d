package handlers

import (
	"fmt"
	"reflect"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
)

// DecodeError says that a payload is not what the handler takes. No retry can
// mend it, so the event goes to the dead-letter topic at once.
type DecodeError struct {
	// Codec and Type say what was attempted.
	Codec string
	Type  reflect.Type
	// Position is the message's place in the broker, if known.
	Position string
	// Excerpt is the start of the payload, at most 64 bytes, as a Go string
	// literal: safe in logs whatever the payload holds.
	Excerpt string
	// Err is the codec's own error.
	Err error
}

const excerptBytes = 64

func (e *DecodeError) Error() string {
	at := ""
	if e.Position != "" {
		at = " at " + e.Position
	}
	return fmt.Sprintf("decode %s as %s%s: %v; payload starts with %s", e.Codec, e.Type, at, e.Err, e.Excerpt)
}

func (e *DecodeError) Unwrap() error { return e.Err }

// Outcome returns Buried.
func (e *DecodeError) Outcome() Outcome { return Buried }

// decode makes a handler's input of a message. A pointer is never nil: what it
// points to is allocated here, as protobuf needs it.
func decode[T any](b *binding, msg *message.Message) (T, error) {
	var in T
	if b.codec == nil || b.input.Kind() == reflect.Pointer {
		value, err := b.decodeValue(msg)
		if err != nil {
			return in, err
		}
		return value.Interface().(T), nil
	}
	err := b.unmarshal(msg, &in)
	return in, err
}

func (b *binding) decodeValue(msg *message.Message) (reflect.Value, error) {
	switch {
	case b.codec == nil:
		return reflect.ValueOf(msg), nil
	case b.input.Kind() == reflect.Pointer:
		pointer := reflect.New(b.input.Elem())
		err := b.unmarshal(msg, pointer.Interface())
		return pointer.Convert(b.input), err
	default:
		pointer := reflect.New(b.input)
		err := b.unmarshal(msg, pointer.Interface())
		return pointer.Elem(), err
	}
}

func (b *binding) unmarshal(msg *message.Message, into any) error {
	err := b.codec.Unmarshal(msg, into)
	if err == nil {
		return nil
	}
	failed := &DecodeError{Codec: b.codec.Name(), Type: b.input, Err: err}
	failed.Excerpt = fmt.Sprintf("%+q", msg.Payload[:min(len(msg.Payload), excerptBytes)])
	if delivery := adapters.DeliveryFrom(msg.Context()); delivery != nil {
		failed.Position = delivery.Position
	}
	return failed
}
