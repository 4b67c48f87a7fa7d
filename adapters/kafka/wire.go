package kafka

import (
	"errors"
	"fmt"
	"strings"

	"github.com/IBM/sarama"
	wmkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hapax-go/hapax/dedup"
)

// marshaler is the wire format: the one of the official Watermill adapter, so
// that services with and without Hapax read each other's topics.
var marshaler wmkafka.DefaultMarshaler

// encode turns a message into a record. The ordering key becomes the record's
// key.
func (b *Broker) encode(topic string, msg *message.Message) (*kgo.Record, error) {
	if topic == "" {
		return nil, fmt.Errorf("%w: message %s has no topic: return it to one with framework.To, or emit it to one", dedup.ErrBadOutput, msg.UUID)
	}
	name, err := b.topicName(topic)
	if err != nil {
		return nil, fmt.Errorf("%w: message %s: %w", dedup.ErrBadOutput, msg.UUID, err)
	}
	produced, err := marshaler.Marshal(name, msg)
	if err != nil {
		return nil, fmt.Errorf("%w: message %s to %q: %w", dedup.ErrBadOutput, msg.UUID, topic, err)
	}
	r := &kgo.Record{Topic: name, Value: msg.Payload, Headers: make([]kgo.RecordHeader, len(produced.Headers))}
	if r.Value == nil {
		r.Value = []byte{} // null would be a tombstone
	}
	size := len(r.Value)
	for i, header := range produced.Headers {
		r.Headers[i] = kgo.RecordHeader{Key: string(header.Key), Value: header.Value}
		size += len(header.Key) + len(header.Value) + 4
	}
	if key := msg.Metadata.Get(dedup.MetaKey); key != "" {
		r.Key = []byte(key)
		size += len(key)
	}
	limit := b.config.MaxPayload
	if msg.Metadata.Get(dedup.MetaDeadReason) != "" {
		limit += letterRoom
		b.letters.Store(name, nil)
	}
	if size > limit {
		return nil, fmt.Errorf("%w: message %s to %q has %d bytes with its metadata, the limit is %d: send a reference to the data, or raise max.message.bytes of the topic and the limit here",
			dedup.ErrBadOutput, msg.UUID, topic, size, limit)
	}
	return r, nil
}

// topicName is the topic's name in Kafka: the config's, or that of TopicName.
func (b *Broker) topicName(logical string) (string, error) {
	if name, known := b.names.Load(logical); known {
		return name.(string), nil
	}
	name, given := b.config.Topics[logical]
	var err error
	if !given {
		name, err = TopicName(logical)
	}
	if err == nil {
		b.names.Store(logical, name)
	}
	return name, err
}

// decode turns a record into a message. A record with a key from elsewhere gets
// that for its ordering key, so that its outputs inherit it.
func decode(r *kgo.Record) (*message.Message, error) {
	headers := make([]sarama.RecordHeader, len(r.Headers))
	pointers := make([]*sarama.RecordHeader, len(r.Headers))
	for i, header := range r.Headers {
		headers[i] = sarama.RecordHeader{Key: []byte(header.Key), Value: header.Value}
		pointers[i] = &headers[i]
	}
	msg, err := marshaler.Unmarshal(&sarama.ConsumerMessage{
		Headers: pointers, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value, Topic: r.Topic, Partition: r.Partition, Offset: r.Offset,
	})
	if err != nil {
		return nil, err
	}
	if _, set := msg.Metadata[dedup.MetaKey]; !set && len(r.Key) > 0 {
		msg.Metadata.Set(dedup.MetaKey, string(r.Key))
	}
	return msg, nil
}

// byKey is the partitioner of Java's clients, for records with a key.
var byKey = kgo.StickyKeyPartitioner(nil)

// partitioner puts records with a key where Java's clients put them, and those
// without one where their event ID says, so that copies of an event meet on one
// partition and in one log of processed IDs. Records of such a log choose their
// partition themselves.
var partitioner = kgo.BasicConsistentPartitioner(func(topic string) func(*kgo.Record, int) int {
	if strings.HasSuffix(topic, ".hapax-ids") {
		return func(r *kgo.Record, _ int) int { return int(r.Partition) }
	}
	keyed := byKey.ForTopic(topic)
	return func(r *kgo.Record, n int) int {
		if len(r.Key) == 0 {
			r = &kgo.Record{Key: identityOf(r)}
		}
		return keyed.Partition(r, n)
	}
})

// identityOf is the event ID of a record, or its UUID.
func identityOf(r *kgo.Record) (id []byte) {
	for _, header := range r.Headers {
		switch {
		case header.Key == dedup.MetaEventID && len(header.Value) > 0:
			return header.Value
		case header.Key == wmkafka.UUIDHeaderKey:
			id = header.Value
		}
	}
	return id
}

// refused reports an error about this very record: sending it again in other
// company would not help.
func refused(err error) (bad, hopeless bool) {
	switch {
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge), errors.Is(err, kerr.InvalidRecord):
		return true, true
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.InvalidTopicException):
		return true, false
	}
	return false, false
}
