package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"

	"github.com/ThreeDotsLabs/watermill/message"
)

var (
	// JSON reads and writes with encoding/json. Fields it does not know are
	// ignored, so that producers may add some; data after the value is refused.
	JSON Codec = jsonCodec{}
	// StrictJSON also refuses unknown fields, and null in place of a value. It
	// writes like JSON.
	StrictJSON Codec = jsonCodec{strict: true}
)

type jsonCodec struct{ strict bool }

func (c jsonCodec) Name() string {
	if c.strict {
		return "strict json"
	}
	return "json"
}

func (jsonCodec) ContentType() string { return "application/json" }

func (c jsonCodec) Check(t reflect.Type) error {
	switch {
	case t.Kind() == reflect.Interface && t.NumMethod() > 0:
		return fmt.Errorf("%s cannot read into the interface %s: take a concrete type", c.Name(), t)
	case t.Kind() == reflect.Func, t.Kind() == reflect.Chan:
		return fmt.Errorf("%s has no form for %s: take a struct", c.Name(), t)
	case reflect.PointerTo(t).Implements(protoMessage):
		return Proto.Check(t)
	}
	return nil
}

func (jsonCodec) Marshal(value any, _ Output) ([]byte, map[string]string, error) {
	payload, err := json.Marshal(value)
	return payload, nil, err
}

func (c jsonCodec) Unmarshal(msg *message.Message, into any) error {
	if !c.strict {
		return json.Unmarshal(msg.Payload, into)
	}
	if bytes.Equal(bytes.TrimSpace(msg.Payload), []byte("null")) {
		return errors.New("payload is null, expected a value")
	}
	decoder := json.NewDecoder(bytes.NewReader(msg.Payload))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return fmt.Errorf("data after the value, at byte %d", decoder.InputOffset())
	}
	return nil
}
