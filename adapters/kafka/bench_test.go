package kafka_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/dedup"
)

// BenchmarkTransactions passes 1 KiB messages on through a Router, the strategy
// and Kafka.
func BenchmarkTransactions(b *testing.B) {
	broker, err := kafka.Open(b.Context(), kafka.Config{Brokers: realKafka(b), Logger: quiet, CreateTopics: true, Partitions: 4})
	require.NoError(b, err)
	defer func() { require.NoError(b, broker.Close()) }()
	input := newTopic(b)
	payload := make([]byte, 1024)
	for done := 0; done < b.N; {
		batch := make([]*message.Message, min(500, b.N-done))
		for i := range batch {
			batch[i] = message.NewMessage(fmt.Sprint("event-", done+i), payload)
		}
		require.NoError(b, broker.Publisher().Publish(input, batch...))
		done += len(batch)
	}
	scope := dedup.Scope{Service: "bench", Handler: input}
	strategy, err := broker.Strategy(dedup.StrategyTransaction, adapters.StrategyOptions{Scope: scope, Group: input, Window: time.Hour})
	require.NoError(b, err)
	once, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy})
	require.NoError(b, err)
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: input})
	require.NoError(b, err)
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	require.NoError(b, err)
	left, done := atomic.Int64{}, make(chan struct{})
	left.Store(int64(b.N))
	count := func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			outputs, err := next(msg)
			if err == nil && left.Add(-1) == 0 {
				close(done)
			}
			return outputs, err
		}
	}
	router.AddHandler("pass", input, subscriber, input+".out", broker.Publisher(), func(msg *message.Message) ([]*message.Message, error) {
		return []*message.Message{message.NewMessage("", msg.Payload)}, nil
	}).AddMiddleware(count, once.Wrap)
	require.NoError(b, subscriber.(message.SubscribeInitializer).SubscribeInitialize(input+".out"))
	b.ReportAllocs()
	b.ResetTimer()
	go func() { _ = router.Run(context.Background()) }()
	<-done
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
	b.StopTimer()
	require.NoError(b, router.Close())
}
