package kafka_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/adapters/kafka/raw"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
)

// An output was sent, its transaction was aborted, and its topic is deleted before the next
// one: others do not wait for the topic to be made again.
func TestOutputTopicIsDeletedBetweenTransactions(t *testing.T) {
	brokers := realKafka(t)
	input, gone, stays := newTopic(t), newTopic(t), newTopic(t)
	require.NoError(t, raw.Reset(within(t, 20*time.Second), brokers, 1, []string{input, gone, stays}))
	config := fast(brokers)
	config.CreateTopics, config.SessionTimeout, config.TransactionTimeout = false, 30*time.Second, 20*time.Second
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	scope, group := dedup.Scope{Service: "test", Handler: "handler"}, "group-"+input
	strategy, err := broker.Strategy(dedup.StrategyTransaction, adapters.StrategyOptions{Scope: scope, Group: group, Window: time.Hour})
	require.NoError(t, err)
	once, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy})
	require.NoError(t, err)
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: group, MaxDeliveries: -1})
	require.NoError(t, err)
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	require.NoError(t, err)
	router.AddConsumerHandler("handler", input, subscriber, func(msg *message.Message) error {
		_, err := once.Wrap(func(msg *message.Message) ([]*message.Message, error) {
			output := message.NewMessage("", msg.Payload)
			output.Metadata.Set(dedup.MetaTopic, string(msg.Payload))
			return []*message.Message{output}, nil
		})(msg)
		return err
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- router.Run(ctx) }()
	defer func() { stop(); require.NoError(t, <-ended) }()
	<-router.Running()

	sent, deleted := make(chan struct{}, 100), make(chan struct{})
	disarm := failpoint.Arm(failpoint.BeforeMark, func() error {
		select {
		case <-deleted:
			return nil
		default:
		}
		sent <- struct{}{}
		<-deleted
		return errors.New("aborted")
	})
	defer disarm()
	publish := func(topic string) {
		event := message.NewMessage(topic, []byte(topic))
		event.Metadata.Set(dedup.MetaEventID, topic)
		require.NoError(t, broker.Publisher().Publish(input, event))
	}
	publish(gone)
	await(t, sent, "nothing was sent")
	require.NoError(t, raw.Reset(within(t, 20*time.Second), brokers, 1, nil, gone))
	publish(stays)
	close(deleted)

	outputs := func(topic string) int {
		values, err := raw.Values(within(t, 20*time.Second), brokers, topic)
		require.NoError(t, err)
		return len(values)
	}
	require.Eventually(t, func() bool { return outputs(stays) == 1 }, 30*time.Second, 50*time.Millisecond, "an event waits for another one's topic")
	require.NoError(t, raw.Reset(within(t, 20*time.Second), brokers, 1, []string{gone}))
	require.Eventually(t, func() bool { return outputs(gone) == 1 }, 30*time.Second, 50*time.Millisecond, "the event was lost")
	require.Equal(t, 1, outputs(stays))
}
