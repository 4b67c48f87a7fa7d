package kafka_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/dedup"
)

// A partition that goes to another member and comes back brings its messages again. One
// that waited for its redelivery when the partition went does not hold up its key.
func TestLostMessageThatWaitedHoldsUpNoKey(t *testing.T) {
	t.Parallel()
	config, topic := fast(fakeKafka(t)), newTopic(t)
	config.Partitions = 2
	join := func() (message.Subscriber, <-chan *message.Message, *kafka.Broker) {
		broker, err := kafka.Open(t.Context(), config)
		require.NoError(t, err)
		t.Cleanup(func() { _ = broker.Close() })
		subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", DrainTimeout: -1})
		require.NoError(t, err)
		messages, err := subscriber.Subscribe(t.Context(), topic)
		require.NoError(t, err)
		return subscriber, messages, broker
	}
	next := func(messages <-chan *message.Message, what string) *message.Message {
		select {
		case msg := <-messages:
			return msg
		case <-time.After(30 * time.Second):
			require.FailNow(t, "no message", what)
			return nil
		}
	}
	_, messages, broker := join()
	positions := map[string]bool{} // of the partitions
	for i := 0; len(positions) < 2; i++ {
		sent := message.NewMessage(fmt.Sprint(i), []byte("x"))
		sent.Metadata.Set(dedup.MetaKey, fmt.Sprint("key-", i))
		require.NoError(t, broker.Publisher().Publish(topic, sent))
		msg := next(messages, "the first time")
		delivery := adapters.DeliveryFrom(msg.Context())
		partition := delivery.Position[:len(topic)+2]
		if positions[partition] {
			msg.Ack()
			continue
		}
		positions[partition] = true
		delivery.RetryAfter(time.Hour)
		msg.Nack()
	}
	other, theirs, _ := join()
	moved := next(theirs, "of the partition that went").UUID
	require.NoError(t, other.Close()) // gives it up, and the partition back
	back := next(messages, "of the partition that came back")
	require.Equal(t, moved, back.UUID)
	back.Ack()
}
