package rabbitmq

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	wmamqp "github.com/ThreeDotsLabs/watermill-amqp/v2/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/hapax-go/hapax/dedup"
)

// maxHeaders bounds the metadata. All headers travel in one frame, of 128 KiB as
// both sides negotiate it.
const maxHeaders = 120 << 10

// maxLetterHeaders is the bound of a dead letter. An event that fills its own must be
// buried all the same, with the reason.
const maxLetterHeaders = 127 << 10

// encode checks a message and makes a publishing of it, in the official adapter's
// format: metadata and UUID as string headers, the payload as body, persistent.
//
// It is filled in where it lies, and the official marshaler is not called, because a
// publishing is some hundred bytes: handed on by value it makes the stack of the
// handler's goroutine, which is new for each message, grow once more.
func (b *Broker) encode(p *posting, topic string, msg *message.Message, now time.Time) error {
	if msg.Metadata[dedup.MetaDeadReason] != "" {
		msg = fitting(msg)
	}
	if err := b.checkSize(topic, msg); err != nil {
		return err
	}
	headers := make(amqp.Table, len(msg.Metadata)+2)
	for name, value := range msg.Metadata {
		headers[name] = value
	}
	if msg.Metadata[dedup.MetaPublishedAt] == "" {
		headers[dedup.MetaPublishedAt] = now.UTC().Format(time.RFC3339Nano)
	}
	delete(headers, dedup.MetaBrokerID) // it is the property
	dropCopies(headers)
	headers[wmamqp.DefaultMessageUUIDHeaderKey] = msg.UUID
	p.Headers, p.Body, p.DeliveryMode = headers, msg.Payload, amqp.Persistent
	p.MessageId = messageID(msg)
	p.key = routingKey(msg, p.MessageId)
	return nil
}

// checkSize refuses what neither the frames nor the server would take. The payload of a
// letter, another program's that may be larger, has been in a queue of the server before.
func (b *Broker) checkSize(topic string, msg *message.Message) error {
	letter, limit := msg.Metadata[dedup.MetaDeadReason] != "", maxHeaders
	if letter {
		limit = maxLetterHeaders
	}
	if len(msg.Payload) > b.config.MaxPayload && !letter {
		return b.errLargePayload(topic, msg)
	}
	for name := range msg.Metadata {
		if len(name) > maxName {
			return errLongName(topic, msg, name)
		}
	}
	if size := headersSize(msg); size > limit {
		return errLargeHeaders(topic, msg, size, limit)
	}
	return nil
}

func headersSize(msg *message.Message) int {
	size := len(msg.UUID)
	for name, value := range msg.Metadata {
		size += len(name) + len(value) + 6
	}
	return size
}

// fitting is a letter that is too large without what only explains its reason further.
func fitting(letter *message.Message) *message.Message {
	if headersSize(letter) <= maxLetterHeaders {
		return letter
	}
	letter = letter.Copy()
	delete(letter.Metadata, dedup.MetaDeadStack)
	delete(letter.Metadata, dedup.MetaDeadError)
	return letter
}

// What is wrong with a message is told apart from the looking for it, whose stack
// frame it would enlarge.

//go:noinline
func (b *Broker) errLargePayload(topic string, msg *message.Message) error {
	return fmt.Errorf("%w: the payload of message %s to %q has %d bytes, the limit is %d: send a reference to the data, or raise the limit here and in the server (max_message_size)",
		dedup.ErrBadOutput, msg.UUID, topic, len(msg.Payload), b.config.MaxPayload)
}

//go:noinline
func errLongName(topic string, msg *message.Message, name string) error {
	return fmt.Errorf("%w: message %s to %q has a metadata name of %d bytes, AMQP allows %d: shorten %.40q…",
		dedup.ErrBadOutput, msg.UUID, topic, len(name), maxName, name)
}

//go:noinline
func errLargeHeaders(topic string, msg *message.Message, size, limit int) error {
	return fmt.Errorf("%w: the metadata of message %s to %q has %d bytes, AMQP headers have room for %d: move data to the payload",
		dedup.ErrBadOutput, msg.UUID, topic, size, limit)
}

// messageID is the message-id property: the event ID, so that consumers that know
// nothing of Hapax find it too. An ID of more than 255 bytes does not fit; its
// hash, as stable, takes its place. There is none for a message that has only a
// UUID: a producer that draws a new one on every retry would mark each retry as
// an event of its own, in a field that counts for more than the UUID does.
func messageID(msg *message.Message) string {
	id, _, err := dedup.Identity{IgnoreUUID: true}.Find(msg)
	switch {
	case err != nil:
		return ""
	case len(id) > maxName:
		sum := sha256.Sum256([]byte(id))
		return hex.EncodeToString(sum[:])
	}
	return id
}

// decode turns a delivery into a message with a payload of its own. Headers of
// other programs need not be strings; they are written out as text. What a
// message lacks, identity and codec find missing, and dead-letter it with the
// reason.
func decode(delivery *amqp.Delivery) *message.Message {
	uuid, _ := delivery.Headers[wmamqp.DefaultMessageUUIDHeaderKey].(string)
	msg := message.NewMessage(uuid, slices.Clone(delivery.Body))
	msg.Metadata = make(message.Metadata, len(delivery.Headers)+1)
	_, parked := delivery.Headers[headerAttempts]
	for name, value := range delivery.Headers {
		if name == headerCC || name == headerBCC {
			continue
		}
		switch value := value.(type) {
		case string:
			if name != wmamqp.DefaultMessageUUIDHeaderKey && name != headerTopic && !(parked && strings.HasPrefix(name, headerFirstDeath)) {
				msg.Metadata[name] = value
			}
		case nil: // its producer has no value for it
		default:
			switch name {
			case headerDeliveryCount, headerDeath, headerAttempts, headerDue:
			default:
				msg.Metadata[name] = asText(value)
			}
		}
	}
	if delivery.MessageId != "" {
		msg.Metadata[dedup.MetaBrokerID] = delivery.MessageId
	}
	if !fromDelay(delivery.Headers) {
		describeDeath(msg, delivery)
	}
	return msg
}

func asText(value any) string {
	if text, ok := value.([]byte); ok && utf8.Valid(text) {
		return string(text)
	}
	return fmt.Sprint(value)
}

// Headers that the server reads: lists of further routing keys for a message. As text,
// which is what metadata would make of them, it refuses them, with the channel and all
// that is in flight on it; and what we make of a message, a letter or one that is parked,
// is not for the queues that its producer chose. So they are left out both ways.
const headerCC, headerBCC = "CC", "BCC"

func dropCopies(headers amqp.Table) {
	delete(headers, headerCC)
	delete(headers, headerBCC)
}

// Headers that the server sets.
const (
	headerDeliveryCount = "x-delivery-count" // times returned to a quorum queue
	headerDeath         = "x-death"          // a list of tables, the latest first
	headerFirstDeath    = "x-first-death-"
)

// returned is how often the message was delivered before and came back. Classic
// queues know only that it was. A count in a message that was never delivered, or from
// them, is another queue's, whose headers somebody has copied.
func (b *Broker) returned(delivery *amqp.Delivery) int {
	switch {
	case !delivery.Redelivered:
		return 0
	case b.config.QueueType == Classic:
		return 1
	}
	switch count := delivery.Headers[headerDeliveryCount].(type) {
	case int64:
		return int(count)
	case int32:
		return int(count)
	}
	return 1
}

// describeDeath gives a message that the server has dead-lettered the metadata of
// a dead letter. The server does not tell how often it had delivered it: its count is that
// of the deaths.
func describeDeath(msg *message.Message, delivery *amqp.Delivery) {
	death := lastDeath(delivery.Headers)
	if death == nil || msg.Metadata.Get(dedup.MetaDeadReason) != "" {
		return
	}
	reason, _ := death["reason"].(string)
	queue, _ := death["queue"].(string)
	topic, _ := death["exchange"].(string)
	if topic == "" { // it came from the queue of a delay
		topic, _ = delivery.Headers[headerTopic].(string)
	}
	if own := topicOf(queue); own != "" && delivery.Exchange == dedup.DeadLetterTopic(own) {
		topic = own // it was published to another exchange, which is bound to the topic's
	}
	msg.Metadata[dedup.MetaDeadReason] = fmt.Sprintf("rabbitmq moved it from queue %s: %s", queue, reason)
	msg.Metadata[dedup.MetaDeadTopic] = topic
}

// lastDeath is what the server says of the last time that it dead-lettered a message.
func lastDeath(headers amqp.Table) amqp.Table {
	deaths, _ := headers[headerDeath].([]any)
	if len(deaths) == 0 {
		return nil
	}
	death, _ := deaths[0].(amqp.Table)
	return death
}
