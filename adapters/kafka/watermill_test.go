package kafka_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/adaptertest"
	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/adapters/kafka/plain"
	"github.com/hapax-go/hapax/dedup"
)

func TestWatermillSuite(t *testing.T) {
	adaptertest.Watermill(t, harness(t, realKafka(t), nil), tests.Features{
		ConsumerGroups: true,
		Persistent:     true,
		// Without a strategy the broker delivers at least once.
		ExactlyOnceDelivery: false,
		// Messages without a key are handed out concurrently.
		GuaranteedOrder:                     false,
		GuaranteedOrderWithSingleSubscriber: false,
		// The suite's subscribers share a group here.
		NewSubscriberReceivesOldMessages: false,
		ContextPreserved:                 false,
	})
}

// A service without Hapax reads what one with it writes, and the other way round.
func TestTheOfficialAdapterReadsAndWritesTheSame(t *testing.T) {
	brokers := realKafka(t)
	broker, err := kafka.Open(t.Context(), fast(brokers))
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	ours, err := broker.Subscriber(adapters.Subscription{Group: "hapax", Ordering: adapters.OrderByKey})
	require.NoError(t, err)
	theirs, err := plain.Subscriber(brokers, newTopic(t), 6*time.Second)
	require.NoError(t, err)
	defer func() { require.NoError(t, theirs.Close()) }()
	official, err := plain.Publisher(brokers)
	require.NoError(t, err)
	defer func() { require.NoError(t, official.Close()) }()

	for name, publisher := range map[string]message.Publisher{"hapax": broker.Publisher(), "official": official} {
		topic := newTopic(t)
		require.NoError(t, ours.(message.SubscribeInitializer).SubscribeInitialize(topic))
		var sent []*message.Message
		for i := range 20 {
			msg := message.NewMessage(fmt.Sprint("uuid-", i), message.Payload(fmt.Sprint("payload ", i)))
			msg.Metadata.Set(dedup.MetaEventID, fmt.Sprint("event-", i))
			msg.Metadata.Set(dedup.MetaKey, "key")
			msg.Metadata.Set("größe", "∞")
			sent = append(sent, msg)
		}
		require.NoError(t, publisher.Publish(topic, sent...))
		for reader, subscriber := range map[string]message.Subscriber{"hapax": ours, "official": theirs} {
			messages, err := subscriber.Subscribe(t.Context(), topic)
			require.NoError(t, err)
			for _, want := range sent {
				select {
				case got := <-messages:
					require.True(t, want.Equals(got), "%s to %s: sent %v, received %v", name, reader, want, got)
					got.Ack()
				case <-time.After(30 * time.Second):
					require.FailNow(t, "nothing came", "%s to %s", name, reader)
				}
			}
		}
	}
}

// Names that Kafka takes stay as they are; others are encoded, and no two meet.
func TestTopicNames(t *testing.T) {
	cases := map[string]string{"orders": "orders", "orders.created": "orders.created", "orders/eu": "orders_x2Feu", "a_b": "a_b",
		"orders_x2Feu": "orders_x5Fx2Feu", "é": "_xC3_xA9", ".": "_x2E", "..": "_x2E_x2E", "_x": "_x", "_x4": "_x4", "_x/": "_x_x2F"}
	for logical, want := range cases {
		name, err := kafka.TopicName(logical)
		require.NoError(t, err)
		require.Equal(t, want, name, logical)
	}
	_, err := kafka.TopicName("")
	require.Error(t, err)
}
