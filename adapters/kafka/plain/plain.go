// Package plain opens the ends of the official Watermill adapter for Kafka, as a
// service without Hapax would: for comparisons in demo and benchmarks, and to show
// that both read each other's topics.
package plain

import (
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	wmkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
)

// wire is the official marshaler with a partition key: equal keys stay in order.
var wire = wmkafka.NewWithPartitioningMarshaler(func(_ string, msg *message.Message) (string, error) {
	if key := msg.Metadata.Get(dedup.MetaKey); key != "" {
		return key, nil
	}
	return msg.UUID, nil
})

// Publisher opens the official publisher.
func Publisher(brokers []string) (message.Publisher, error) {
	publisher, err := wmkafka.NewPublisher(wmkafka.PublisherConfig{Brokers: brokers, Marshaler: wire}, watermill.NopLogger{})
	if err != nil {
		return nil, fmt.Errorf("open official publisher: %w", err)
	}
	return publisher, nil
}

// Subscriber opens the official subscriber of a group that reads from the
// beginning, with the given session timeout.
func Subscriber(brokers []string, group string, session time.Duration) (message.Subscriber, error) {
	config := wmkafka.DefaultSaramaSubscriberConfig()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.IsolationLevel = sarama.ReadCommitted
	config.Consumer.Group.Session.Timeout = session
	config.Consumer.Group.Heartbeat.Interval = session / 3
	subscriber, err := wmkafka.NewSubscriber(wmkafka.SubscriberConfig{
		Brokers: brokers, Unmarshaler: wire, OverwriteSaramaConfig: config, ConsumerGroup: group,
		NackResendSleep: 10 * time.Millisecond, ReconnectRetrySleep: 100 * time.Millisecond,
	}, watermill.NopLogger{})
	if err != nil {
		return nil, fmt.Errorf("open official subscriber: %w", err)
	}
	return subscriber, nil
}
