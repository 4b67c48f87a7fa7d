package kafka_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/dedup"
)

// A message that is to come again long after the consumer has stopped waiting for its
// handlers is not waited for.
func TestCloseWithAPostponedMessage(t *testing.T) {
	t.Parallel()
	for _, strategy := range []string{dedup.StrategyTransaction, dedup.StrategyNone} {
		t.Run(strategy, func(t *testing.T) {
			broker, err := kafka.Open(t.Context(), fast(fakeKafka(t)))
			require.NoError(t, err)
			defer func() { require.NoError(t, broker.Close()) }()
			if strategy == dedup.StrategyTransaction {
				scope := dedup.Scope{Service: "test", Handler: "handler"}
				_, err = broker.Strategy(strategy, adapters.StrategyOptions{Scope: scope, Group: "group", Window: time.Hour})
				require.NoError(t, err)
			}
			topic := newTopic(t)
			subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", DrainTimeout: time.Minute})
			require.NoError(t, err)
			messages, err := subscriber.Subscribe(t.Context(), topic)
			require.NoError(t, err)
			require.NoError(t, broker.Publisher().Publish(topic, message.NewMessage("1", nil)))
			msg := <-messages
			adapters.DeliveryFrom(msg.Context()).RetryAfter(time.Hour)
			require.True(t, msg.Nack())
			<-msg.Context().Done() // taken note of
			closed := make(chan error, 1)
			go func() { closed <- subscriber.Close() }()
			select {
			case err := <-closed:
				require.NoError(t, err)
			case <-within(t, 20*time.Second).Done():
				require.Fail(t, "the consumer waits for a message that it does not hand out any more")
			}
		})
	}
}
