package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
)

// batcher runs a consumer whose handler takes many events at once and has no outputs.
func batcher(t *testing.T, config kafka.Config, topic, group string, size int) (broker *kafka.Broker, stop func()) {
	t.Helper()
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	scope := dedup.Scope{Service: "test", Handler: "handler"}
	strategy, err := broker.Strategy(dedup.StrategyTransaction, adapters.StrategyOptions{Scope: scope, Group: group, Window: time.Hour})
	require.NoError(t, err)
	once, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy})
	require.NoError(t, err)
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: group, DrainTimeout: 200 * time.Millisecond, MaxDeliveries: -1})
	require.NoError(t, err)
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 10 * time.Second}, watermill.NopLogger{})
	require.NoError(t, err)
	handle := once.Batch(func(messages []*message.Message) ([]*message.Message, error) {
		var err error
		for _, msg := range messages {
			err = errors.Join(err, msg.Context().Err())
		}
		return nil, err
	}, dedup.Batching{Size: size, Wait: time.Second})
	router.AddConsumerHandler("handler", topic, subscriber, func(msg *message.Message) error {
		_, err := handle(msg)
		return err
	})
	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	ended.Go(func() { _ = router.Run(ctx) })
	<-router.Running()
	return broker, func() {
		cancel()
		ended.Wait()
		require.NoError(t, broker.Close())
	}
}

// events are of keys of their own, so that they can be in one batch.
func events(count int) (list []*message.Message) {
	for i := range count {
		event := message.NewMessage(fmt.Sprint(i), []byte(`{}`))
		event.Metadata.Set(dedup.MetaEventID, fmt.Sprint(i))
		event.Metadata.Set(dedup.MetaKey, fmt.Sprint(i))
		list = append(list, event)
	}
	return list
}

// A batch is of two partitions, and its transaction is aborted until one of them has
// another owner. The consumer keeps the other one, and processes what is of that.
func TestBatchThatLosesAPartition(t *testing.T) {
	config := fast(fakeKafka(t))
	config.Partitions = 2
	topic := newTopic(t)
	aborted, failing := make(chan struct{}, 1), atomic.Bool{}
	failing.Store(true)
	disarm := failpoint.Arm(failpoint.BeforeMark, func() error {
		if !failing.Load() {
			return nil
		}
		select {
		case aborted <- struct{}{}:
		default:
		}
		return errors.New("no commit for now")
	})
	defer disarm()
	first, stop := batcher(t, config, topic, "group", 20)
	defer stop()
	require.NoError(t, first.Publisher().Publish(topic, events(20)...))
	await(t, aborted, "the batch does not come to its commit")

	second, stop := batcher(t, config, topic, "group", 20)
	defer stop()
	require.Eventually(t, func() bool {
		stats, err := second.Stats(t.Context())
		return err == nil && len(stats.Groups) == 1 && stats.Groups[0].Partitions == 1
	}, 20*time.Second, 10*time.Millisecond, "the second consumer was given no partition")
	failing.Store(false)
	require.Eventually(t, func() bool {
		lag, err := second.Lag(t.Context(), "group", topic)
		return err == nil && lag == 0
	}, 20*time.Second, 10*time.Millisecond, "messages of the partition that stayed are stuck")
}

// The IDs of a batch take more room than a message may have.
func TestBatchOfManyIDs(t *testing.T) {
	t.Parallel()
	for name, brokers := range map[string][]string{"fake": fakeKafka(t), "real": realKafka(t)} {
		t.Run(name, func(t *testing.T) {
			config := fast(brokers)
			config.Partitions, config.MaxPayload = 1, 1024
			config.SessionTimeout, config.TransactionTimeout = 30*time.Second, 20*time.Second
			topic, group := newTopic(t), newTopic(t)
			broker, stop := batcher(t, config, topic, group, 500)
			defer stop()
			require.NoError(t, broker.Publisher().Publish(topic, events(500)...))
			require.Eventually(t, func() bool {
				lag, err := broker.Lag(t.Context(), group, topic)
				return err == nil && lag == 0
			}, 20*time.Second, 10*time.Millisecond, "the batch is not committed")
			require.Eventually(t, func() bool {
				stats, err := broker.Stats(t.Context())
				return err == nil && stats.IDs == 500 && stats.Aborts == 0
			}, 20*time.Second, 10*time.Millisecond, "not all IDs are known, or transactions were aborted")
		})
	}
}
