package codec

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"reflect"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/cloudevents/sdk-go/v2/event"
)

// Metadata names of the CloudEvents binary mode, as in its Kafka binding.
const (
	MetaContentType = "content-type"
	metaCEPrefix    = "ce_"
)

const structuredType = event.ApplicationCloudEventsJSON

// CloudEvents reads and writes CloudEvents 1.0. In the binary mode, its zero
// value, attributes are metadata (ce_id, ce_source, ce_type, ce_specversion,
// content-type) and the payload is the data; in the structured mode one JSON
// document holds both. Written events carry the four required attributes: the
// id is the output's event ID. They carry no time, because a handler that runs
// again must write the same bytes.
//
// Both modes are read, whatever the mode of writing: a content-type of
// application/cloudevents+json tells structured, ce_specversion tells binary.
//
// The event ID of a structured event sits in its payload, where dedup's identity
// finds it by the content-type; in one that comes without, only when told to
// (dedup.id.pointer: /id).
type CloudEvents struct {
	// Source is the source attribute of written events, a URI reference such as
	// "/fulfilment". Required to write.
	Source string
	// Type returns the type attribute for a value. Default: the name of its Go
	// type without the package ("Shipment").
	Type func(value any) string
	// Structured writes one JSON document instead of metadata and data.
	Structured bool
	// Data is the codec of the data. Default: JSON.
	Data Codec
}

// Name returns "cloudevents".
func (CloudEvents) Name() string { return "cloudevents" }

// ContentType is that of the envelope in structured mode, that of the data in
// binary mode.
func (c CloudEvents) ContentType() string {
	if c.Structured {
		return structuredType
	}
	return c.data().ContentType()
}

// Check asks the data's codec.
func (c CloudEvents) Check(t reflect.Type) error { return c.data().Check(t) }

// Marshal writes a value as an event under the output's ID.
func (c CloudEvents) Marshal(value any, output Output) ([]byte, map[string]string, error) {
	if c.Source == "" {
		return nil, nil, errors.New("source is empty, and every CloudEvent needs one: set CloudEvents.Source to a URI reference such as /fulfilment")
	}
	data, metadata, err := c.data().Marshal(value, output)
	if err != nil {
		return nil, nil, err
	}
	id, err := output.ID()
	if err != nil {
		return nil, nil, err
	}
	envelope := event.New(event.CloudEventsVersionV1)
	envelope.SetID(id)
	envelope.SetSource(c.Source)
	envelope.SetType(c.typeOf(value))
	envelope.SetDataContentType(c.data().ContentType())
	if err := envelope.Validate(); err != nil {
		return nil, nil, fmt.Errorf("validate event: %w", err)
	}
	if metadata == nil {
		metadata = make(map[string]string, 8) // five here, a few more when it is sent
	}
	metadata[MetaContentType] = c.ContentType()
	if !c.Structured {
		metadata[metaCEPrefix+"specversion"] = event.CloudEventsVersionV1
		metadata[metaCEPrefix+"id"] = id
		metadata[metaCEPrefix+"source"] = c.Source
		metadata[metaCEPrefix+"type"] = envelope.Type()
		return data, metadata, nil
	}
	envelope.DataEncoded = data
	envelope.DataBase64 = !isJSON(c.data().ContentType())
	payload, err := envelope.MarshalJSON()
	return payload, metadata, err
}

// Unmarshal reads an event of either mode.
func (c CloudEvents) Unmarshal(msg *message.Message, into any) error {
	media, _, _ := mime.ParseMediaType(msg.Metadata.Get(MetaContentType))
	switch {
	case media == structuredType:
		return c.unmarshalStructured(msg, into)
	case strings.HasPrefix(media, "application/cloudevents"):
		return fmt.Errorf("content-type is %s, expected %s or the binary mode", media, structuredType)
	case msg.Metadata.Get(metaCEPrefix+"specversion") != "" || !c.Structured:
		return c.unmarshalBinary(msg, into)
	default:
		return c.unmarshalStructured(msg, into)
	}
}

func (c CloudEvents) unmarshalBinary(msg *message.Message, into any) error {
	attribute := func(name string) string { return msg.Metadata.Get(metaCEPrefix + name) }
	if version := attribute("specversion"); version != event.CloudEventsVersionV1 {
		return fmt.Errorf("metadata ce_specversion is %q, expected %q", version, event.CloudEventsVersionV1)
	}
	envelope := event.New(event.CloudEventsVersionV1)
	envelope.SetID(attribute("id"))
	envelope.SetSource(attribute("source"))
	envelope.SetType(attribute("type"))
	if err := envelope.Validate(); err != nil {
		return fmt.Errorf("validate ce_ metadata: %w", err)
	}
	return c.data().Unmarshal(msg, into)
}

func (c CloudEvents) unmarshalStructured(msg *message.Message, into any) error {
	envelope, err := readEnvelope(msg.Payload)
	if err != nil {
		return err
	}
	if err := envelope.Validate(); err != nil {
		return fmt.Errorf("validate event: %w", err)
	}
	if len(envelope.Data()) == 0 {
		return errors.New("event has no data")
	}
	return c.data().Unmarshal(&message.Message{Metadata: msg.Metadata, Payload: envelope.Data()}, into)
}

// readEnvelope guards the SDK's reader. Through json.Unmarshal it only sees
// documents that are valid JSON to the last byte; what is left are values of the
// wrong type, some of which make it panic ("data_base64": 1).
func readEnvelope(payload []byte) (envelope event.Event, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("read event: an attribute has the wrong type: %v", cause)
		}
	}()
	if err := json.Unmarshal(payload, &envelope); err != nil {
		return envelope, fmt.Errorf("read event: %w", err)
	}
	if version := envelope.SpecVersion(); version != event.CloudEventsVersionV1 {
		return envelope, fmt.Errorf("read event: specversion is %q, expected %q", version, event.CloudEventsVersionV1)
	}
	return envelope, nil
}

func (c CloudEvents) data() Codec {
	if c.Data == nil {
		return JSON
	}
	return c.Data
}

func (c CloudEvents) typeOf(value any) string {
	if c.Type != nil {
		return c.Type(value)
	}
	t := reflect.TypeOf(value)
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil {
		return ""
	}
	if t.Name() == "" { // map[string]any and its like have no name of their own
		return t.String()
	}
	return t.Name()
}

func isJSON(contentType string) bool {
	return contentType == "application/json" || strings.HasSuffix(contentType, "+json")
}
