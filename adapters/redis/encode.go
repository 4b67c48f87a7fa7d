package redis

import (
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
)

// wire is the official adapter's format: an entry with the fields
// _watermill_message_uuid, metadata (MessagePack) and payload.
var wire redisstream.DefaultMarshallerUnmarshaller

// encoded is a message as an entry has it.
type encoded struct {
	topic          string
	uuid           string
	metadata, body []byte
}

// encode checks a message and turns it into an entry.
func (b *Broker) encode(topic string, msg *message.Message, now time.Time) (encoded, error) {
	if topic == "" {
		return encoded{}, fmt.Errorf("%w: message %s has no topic: return it to one with framework.To, or emit it to one", dedup.ErrBadOutput, msg.UUID)
	}
	if err := b.checkTopic(topic); err != nil {
		return encoded{}, fmt.Errorf("%w: %w", dedup.ErrBadOutput, err)
	}
	if len(msg.Payload) > b.config.MaxPayload {
		return encoded{}, fmt.Errorf("%w: the payload of message %s to %q has %d bytes, the limit is %d: send a reference to the data, or raise the limit",
			dedup.ErrBadOutput, msg.UUID, topic, len(msg.Payload), b.config.MaxPayload)
	}
	stamped := message.Message{UUID: msg.UUID, Payload: msg.Payload, Metadata: msg.Metadata}
	if msg.Metadata.Get(dedup.MetaPublishedAt) == "" {
		stamped.Metadata = make(message.Metadata, len(msg.Metadata)+1)
		for name, value := range msg.Metadata {
			stamped.Metadata[name] = value
		}
		stamped.Metadata[dedup.MetaPublishedAt] = now.UTC().Format(time.RFC3339Nano)
	}
	values, err := wire.Marshal(topic, &stamped)
	if err != nil {
		return encoded{}, fmt.Errorf("%w: encode message %s to %q: %w", dedup.ErrBadOutput, msg.UUID, topic, err)
	}
	return encoded{topic: topic, uuid: msg.UUID, metadata: values["metadata"].([]byte), body: values["payload"].([]byte)}, nil
}

// decode turns an entry into a message. Entries of other programs are messages too:
// what they lack, a UUID or a payload, the identity and the codec find missing, and
// dead-letter them with the reason. Fields that are not the format's become metadata.
func decode(fields map[string]any) *message.Message {
	if _, ours := fields[redisstream.UUIDHeaderKey]; ours {
		if msg, err := wire.Unmarshal(fields); err == nil {
			if msg.Metadata == nil {
				msg.Metadata = message.Metadata{}
			}
			return msg
		}
	}
	uuid, _ := fields[redisstream.UUIDHeaderKey].(string)
	payload, _ := fields["payload"].(string)
	msg := message.NewMessage(uuid, []byte(payload))
	for name, value := range fields {
		if text, ok := value.(string); ok && name != "payload" && name != redisstream.UUIDHeaderKey {
			msg.Metadata.Set(name, text)
		}
	}
	return msg
}
