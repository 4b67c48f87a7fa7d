package outbox

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/hapax-go/hapax/dedup"
)

// row is a message as the table has it.
type row struct {
	shard                     int
	topic, key, eventID, uuid string
	metadata                  string
	payload                   []byte
}

func (r row) size() int {
	return len(r.topic) + len(r.key) + len(r.eventID) + len(r.uuid) + len(r.metadata) + len(r.payload)
}

// maxTopic is the length of the column, in characters, on MySQL.
const maxTopic = 255

// check finds what the database would refuse, because there it would end the
// caller's transaction.
func check(topic string, msg *message.Message) error {
	switch {
	case topic == "":
		return fmt.Errorf("%w: message %s has no topic: return it to one with framework.To, or emit it to one", dedup.ErrBadOutput, msg.UUID)
	case len(topic) > maxTopic || !storable(topic):
		return fmt.Errorf("%w: message %s is for topic %.40q: expected at most %d bytes of UTF-8 without NUL", dedup.ErrBadOutput, msg.UUID, topic, maxTopic)
	}
	return nil
}

// encode checks a message and turns it into a row.
func encode(ctx context.Context, topic string, msg *message.Message) (row, error) {
	if err := check(topic, msg); err != nil {
		return row{}, err
	}
	metadata := maps.Clone(msg.Metadata)
	if metadata == nil {
		metadata = message.Metadata{}
	}
	eventID, err := identify(metadata, msg)
	if err != nil {
		return row{}, err
	}
	if metadata.Get(dedup.MetaPublishedAt) == "" {
		metadata.Set(dedup.MetaPublishedAt, time.Now().UTC().Format(time.RFC3339Nano))
	}
	propagate(ctx, metadata, msg)
	key := metadata.Get(dedup.MetaKey)
	together := key
	if together == "" {
		together = eventID // ordered with nothing, so it may go anywhere
	}
	payload := []byte(msg.Payload)
	if payload == nil {
		payload = []byte{} // NULL is not a payload
	}
	return row{
		shard: shardOf(together), topic: topic, key: text(key), eventID: text(eventID), uuid: text(msg.UUID),
		metadata: encodeMetadata(metadata), payload: payload,
	}, nil
}

// identify returns the event ID that consumers will find, and sets one where they
// would find none that lasts: the UUID is Watermill's own, and may be empty.
func identify(metadata message.Metadata, msg *message.Message) (string, error) {
	id, source, err := dedup.Identity{}.Find(msg)
	switch {
	case err != nil:
		id = watermill.NewUUID()
	case source != dedup.SourceUUID:
		return id, nil
	}
	metadata.Set(dedup.MetaEventID, id)
	return id, nil
}

// propagate lets the trace go on at the consumer: the message's own, or that of
// the transaction.
func propagate(ctx context.Context, metadata message.Metadata, msg *message.Message) {
	if trace.SpanContextFromContext(msg.Context()).IsValid() {
		ctx = msg.Context()
	}
	if metadata.Get("traceparent") == "" {
		propagation.TraceContext{}.Inject(ctx, propagation.MapCarrier(metadata))
	}
}

func shardOf(key string) int {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(key))
	return int(hash.Sum32() % Shards)
}

// notText marks what is not UTF-8, or has a NUL in it: databases refuse both in a
// text, and JSON would replace the former.
const notText = "hapax_base64:"

func storable(value string) bool {
	return utf8.ValidString(value) && !strings.ContainsRune(value, 0)
}

// text is what original makes the value of again.
func text(value string) string {
	if storable(value) && !strings.HasPrefix(value, notText) {
		return value
	}
	return notText + base64.StdEncoding.EncodeToString([]byte(value))
}

func original(text string) string {
	encoded, coded := strings.CutPrefix(text, notText)
	if !coded {
		return text
	}
	value, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return text // somebody's own words
	}
	return string(value)
}

func encodeMetadata(metadata message.Metadata) string {
	stored := make(message.Metadata, len(metadata))
	for name, value := range metadata {
		stored[text(name)] = text(value)
	}
	encoded, _ := json.Marshal(stored) // a map of strings always encodes
	return string(encoded)
}

func decodeMetadata(encoded []byte) (message.Metadata, error) {
	var stored message.Metadata
	if err := json.Unmarshal(encoded, &stored); err != nil {
		return nil, fmt.Errorf("decode metadata: %w", err)
	}
	metadata := make(message.Metadata, len(stored))
	for name, value := range stored {
		metadata[original(name)] = original(value)
	}
	return metadata, nil
}
