package kafka_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/internal/failpoint"
)

// The figures tell the lag while a handler holds everything up, and then what was
// committed, aborted and remembered. It is not parallel: the failpoint is the process's.
func TestFigures(t *testing.T) {
	config := fast(realKafka(t))
	config.Partitions = 1
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	input := newTopic(t)
	once, subscriber := onceOn(t, broker, input)
	for _, topic := range []string{input, input + ".out"} {
		require.NoError(t, subscriber.(message.SubscribeInitializer).SubscribeInitialize(topic))
	}
	const events = 5
	for range events {
		require.NoError(t, broker.Publisher().Publish(input, message.NewMessage(watermill.NewUUID(), nil)))
	}
	figure := func(name string) float64 {
		figures, err := broker.Figures(t.Context(), nil)
		assert.NoError(t, err)
		for _, figure := range figures {
			if figure.Name == name {
				return figure.Value
			}
		}
		assert.Fail(t, "no such figure", "%s in %v", name, figures) // not require: others than the test call it
		return -1
	}

	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	require.NoError(t, err)
	begun, release := make(chan struct{}, 100), make(chan struct{})
	router.AddHandler("pass", input, subscriber, input+".out", broker.Publisher(), func(msg *message.Message) ([]*message.Message, error) {
		begun <- struct{}{}
		<-release
		return []*message.Message{message.NewMessage("", msg.Payload)}, nil
	}).AddMiddleware(once.Wrap)
	var failed atomic.Bool
	defer failpoint.Arm(failpoint.AfterPublish, func() error {
		if failed.CompareAndSwap(false, true) {
			return errors.New("the transaction fails, once")
		}
		return nil
	})()
	ended := make(chan error, 1)
	go func() { ended <- router.Run(context.Background()) }()
	<-begun
	require.EqualValues(t, 1, figure("hapax_kafka_partitions"))
	require.EqualValues(t, events, figure("hapax_backlog_messages"))
	require.Zero(t, figure("hapax_kafka_transactions_total"))

	close(release)
	require.Eventually(t, func() bool { return figure("hapax_kafka_ids") == events }, 30*time.Second, 20*time.Millisecond)
	require.EqualValues(t, 1, figure("hapax_kafka_aborts_total"))
	require.Positive(t, figure("hapax_kafka_transactions_total"))
	require.Positive(t, figure("hapax_kafka_id_bytes"))
	require.Positive(t, figure("hapax_kafka_rebalances_total"))
	require.Zero(t, figure("hapax_kafka_lost_partitions_total"))
	require.Eventually(t, func() bool { return figure("hapax_backlog_messages") == 0 }, 30*time.Second, 20*time.Millisecond)
	require.NoError(t, router.Close())
	require.NoError(t, <-ended)
}
