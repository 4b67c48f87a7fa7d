package redis

import (
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/tinylib/msgp/msgp"

	"github.com/hapax-go/hapax/dedup"
)

// wire is the official adapter's format: an entry with the fields
// _watermill_message_uuid, metadata (MessagePack) and payload. It reads what is not
// written as plainly as packMetadata and the official adapter itself write it.
var wire redisstream.DefaultMarshallerUnmarshaller

// encoded is a message as an entry has it.
type encoded struct {
	topic          string
	uuid           string
	metadata, body blob
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
	if msg.Metadata.Get(redisstream.UUIDHeaderKey) != "" {
		return encoded{}, fmt.Errorf("%w: message %s to %q has metadata %q: the name is the format's own, choose another", dedup.ErrBadOutput, msg.UUID, topic, redisstream.UUIDHeaderKey)
	}
	return encoded{topic: topic, uuid: msg.UUID, metadata: packMetadata(msg.Metadata, now), body: blob(msg.Payload)}, nil
}

// packMetadata is the official marshaler's MessagePack map, without its reflection:
// that took longer than anything else here, and grew the stack of every handler.
func packMetadata(metadata message.Metadata, now time.Time) []byte {
	pairs, size := uint32(len(metadata)), 64
	for name, value := range metadata {
		size += len(name) + len(value) + 10
	}
	stamped := metadata.Get(dedup.MetaPublishedAt) != ""
	if _, empty := metadata[dedup.MetaPublishedAt]; !stamped && !empty {
		pairs++
	}
	packed := msgp.AppendMapHeader(make([]byte, 0, size), pairs)
	for name, value := range metadata {
		if stamped || name != dedup.MetaPublishedAt {
			packed = msgp.AppendString(msgp.AppendString(packed, name), value)
		}
	}
	if !stamped {
		packed = msgp.AppendString(packed, dedup.MetaPublishedAt)
		packed = msgp.AppendString(packed, now.UTC().Format(time.RFC3339Nano))
	}
	return packed
}

// decode turns an entry into a message. Entries of other programs are messages too:
// what they lack, a UUID or a payload, the identity and the codec find missing, and
// dead-letter them with the reason. Fields that are not the format's become metadata.
func decode(fields map[string]any) *message.Message {
	if uuid, ours := fields[redisstream.UUIDHeaderKey].(string); ours {
		packed, _ := fields["metadata"].(string)
		payload, _ := fields["payload"].(string)
		if msg := message.NewMessage(uuid, []byte(payload)); unpackMetadata(packed, msg.Metadata) {
			return msg
		}
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
