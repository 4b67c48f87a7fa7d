package kafka_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
)

// A consumer of a group without the strategy is told to stop while it tries to send a
// dead letter, and Kafka is away.
func TestCloseWhileADeadLetterCannotBeSent(t *testing.T) {
	t.Parallel()
	config, buried := fast(fakeKafka(t)), make(chan struct{}, 1)
	config.Logger = slog.New(listener{"message goes to the dead-letter topic", buried})
	cables := kafka.WithCables(&config)
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	topic := newTopic(t)
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", MaxDeliveries: 1, DrainTimeout: 100 * time.Millisecond})
	require.NoError(t, err)
	for _, topic := range []string{topic, topic + ".dead"} {
		require.NoError(t, subscriber.(message.SubscribeInitializer).SubscribeInitialize(topic))
	}
	messages, err := subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	require.NoError(t, broker.Publisher().Publish(topic, message.NewMessage("1", []byte("x"))))
	msg := <-messages
	cables.PullAll()
	msg.Nack()
	await(t, buried, "the message is no dead letter")
	closed := make(chan error, 1)
	go func() { closed <- subscriber.Close() }()
	select {
	case err := <-closed:
		require.NoError(t, err)
	case <-within(t, 30*time.Second).Done():
		require.Fail(t, "Close waits for Kafka")
	}
	require.NoError(t, broker.Close())
}
