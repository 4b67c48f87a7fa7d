package dedup

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/go-openapi/jsonpointer"
	"github.com/gowebpki/jcs"
)

// Source says where an event ID was found.
type Source string

// The places an event ID is looked for, in this order; the first that has a
// non-empty value wins.
const (
	// SourceMetadata is the hapax_event_id metadata.
	SourceMetadata Source = "hapax_event_id"
	// SourceCloudEvent is source with id, in the binary mode (ce_source, ce_id) or
	// the structured one: together they are unique (CloudEvents 1.0, section "id").
	SourceCloudEvent Source = "cloudevents"
	// SourceBroker is the broker's own field, which the adapter copies to
	// MetaBrokerID: AMQP message-id, SQS MessageDeduplicationId.
	SourceBroker Source = "broker"
	// SourceUUID is the Watermill UUID.
	SourceUUID Source = "uuid"
	// SourcePointer is a JSON pointer (RFC 6901) into the payload.
	SourcePointer Source = "pointer"
	// SourceContent is the hash of the content.
	SourceContent Source = "content"
)

// MetaBrokerID is where adapters put the broker's own message ID field.
const MetaBrokerID = "hapax_broker_id"

// Identity finds the stable ID of an event. The zero value looks at metadata
// and UUID only.
type Identity struct {
	// Pointer is a JSON pointer (RFC 6901) to the ID inside the payload, such as
	// "/order/id"; empty: the payload is not looked into.
	Pointer string
	// IgnoreUUID passes over the Watermill UUID, for producers that draw a new
	// one on every retry.
	IgnoreUUID bool
	// ContentHash, as a last resort, takes the SHA-256 of the content for the
	// ID: over canonical JSON (RFC 8785, but for numbers that it would round) when
	// the payload is JSON, over the raw bytes otherwise. Two events that really are equal become one, so it is
	// off unless configured.
	ContentHash bool
}

// Find returns the event ID of a message and where it was found. ErrNoID when
// no rule applies: the message must be dead-lettered, never guessed about.
func (i Identity) Find(msg *message.Message) (string, Source, error) {
	if id := msg.Metadata.Get(MetaEventID); id != "" {
		return id, SourceMetadata, nil
	}
	if source, id := cloudEvent(msg); id != "" {
		// Length-prefixed: a source may contain any separator.
		return fmt.Sprintf("%d:%s:%s", len(source), source, id), SourceCloudEvent, nil
	}
	if id := msg.Metadata.Get(MetaBrokerID); id != "" {
		return id, SourceBroker, nil
	}
	if msg.UUID != "" && !i.IgnoreUUID {
		return msg.UUID, SourceUUID, nil
	}
	if i.Pointer != "" {
		id, err := lookup(i.Pointer, msg.Payload)
		if err != nil && !i.ContentHash {
			return "", "", err
		}
		if id != "" {
			return id, SourcePointer, nil
		}
	}
	if i.ContentHash {
		return contentID(msg.Payload), SourceContent, nil
	}
	return "", "", fmt.Errorf("%w: looked for metadata %s, ce_id, the broker's own field%s; set one where the event is made, or dedup.id.pointer in the config",
		ErrNoID, MetaEventID, i.also())
}

func (i Identity) also() string {
	also := ""
	if !i.IgnoreUUID {
		also += ", the UUID"
	}
	if i.Pointer != "" {
		also += ", " + i.Pointer + " in the payload"
	}
	return also
}

const structuredEvent = "application/cloudevents+json"

// cloudEvent finds a CloudEvent's source and ID: in metadata in the binary mode,
// in the envelope in the structured one.
func cloudEvent(msg *message.Message) (source, id string) {
	if id := msg.Metadata.Get("ce_id"); id != "" {
		return msg.Metadata.Get("ce_source"), id
	}
	media := msg.Metadata.Get("content-type")
	if len(media) < len(structuredEvent) || !strings.EqualFold(media[:len(structuredEvent)], structuredEvent) {
		return "", ""
	}
	var envelope struct{ Source, ID string }
	if json.Unmarshal(msg.Payload, &envelope) != nil {
		return "", "" // the codec will say what is wrong with it
	}
	return envelope.Source, envelope.ID
}

func lookup(path string, payload []byte) (string, error) {
	pointer, err := jsonpointer.New(path)
	if err != nil {
		return "", fmt.Errorf("parse pointer %q: %w", path, err)
	}
	var document any
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber() // as float64, two large integer IDs could become one
	if err := decoder.Decode(&document); err != nil {
		return "", fmt.Errorf("%w: read %s: payload is not JSON: %w", ErrNoID, path, err)
	}
	value, _, err := pointer.Get(document)
	if err != nil {
		return "", fmt.Errorf("%w: read %s: %w", ErrNoID, path, err)
	}
	switch value := value.(type) {
	case string:
		return value, nil
	case json.Number:
		return value.String(), nil
	default: // true, say, is no event's own
		return "", fmt.Errorf("%w: %s is a %T, expected a string or a number", ErrNoID, path, value)
	}
}

func contentID(payload []byte) string {
	sum := sha256.Sum256(canonical(payload))
	return hex.EncodeToString(sum[:16])
}

// canonical is the same for all JSON texts of one content. RFC 8785 takes numbers for
// float64, and two large integers for one: where it would round, they stay as they are
// written. What it does not take for JSON stays whole.
func canonical(payload []byte) []byte {
	short, err := jcs.Transform(payload)
	if err != nil {
		return payload
	}
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	var document any
	if decoder.Decode(&document) != nil {
		return payload
	}
	if !rounded(document) {
		return short
	}
	exact, err := json.Marshal(document)
	if err != nil {
		return payload
	}
	return exact
}

// rounded reports whether a document has a number that float64 may not tell from another:
// it keeps any of 15 digits.
func rounded(value any) bool {
	switch value := value.(type) {
	case json.Number:
		written, exponent, _ := strings.Cut(strings.ToLower(value.String()), "e")
		power, err := strconv.Atoi(cmp.Or(exponent, "0"))
		digits := strings.TrimLeft(strings.ReplaceAll(written, ".", ""), "-0")
		return err != nil || power < -100 || power > 100 || len(written) > 100 || len(digits) > 15
	case []any:
		return slices.ContainsFunc(value, rounded)
	case map[string]any:
		for _, member := range value {
			if rounded(member) {
				return true
			}
		}
	}
	return false
}
