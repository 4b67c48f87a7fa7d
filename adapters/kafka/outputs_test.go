package kafka_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/adapters/kafka/raw"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
)

// passOn runs a handler that sends every event on to a topic, in transactions, until stop.
func passOn(t *testing.T, broker *kafka.Broker, input string, subscription adapters.Subscription, to func(*message.Message) string) (stop func()) {
	t.Helper()
	scope := dedup.Scope{Service: "test", Handler: "handler"}
	strategy, err := broker.Strategy(dedup.StrategyTransaction, adapters.StrategyOptions{Scope: scope, Group: subscription.Group, Window: time.Hour})
	require.NoError(t, err)
	once, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy})
	require.NoError(t, err)
	subscriber, err := broker.Subscriber(subscription)
	require.NoError(t, err)
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	require.NoError(t, err)
	router.AddConsumerHandler("handler", input, subscriber, func(msg *message.Message) error {
		_, err := once.Wrap(func(msg *message.Message) ([]*message.Message, error) {
			output := message.NewMessage("", msg.Payload)
			output.Metadata.Set(dedup.MetaTopic, to(msg))
			return []*message.Message{output}, nil
		})(msg)
		return err
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- router.Run(ctx) }()
	<-router.Running()
	return func() { cancel(); require.NoError(t, <-ended) }
}

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
	defer passOn(t, broker, input, adapters.Subscription{Group: "group-" + input, MaxDeliveries: -1}, func(msg *message.Message) string { return string(msg.Payload) })()

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

// A broker refuses the batches that some outputs are in: their events fail alone, again when
// they come again, and are given up. Those of the others in the batches take effect.
func TestOutputsThatTheBrokerRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		setting, value string
		spoil          func(event *message.Message)
	}{
		"larger than the topic takes": {"max.message.bytes", "2000", func(event *message.Message) { event.Payload = incompressible(3000) }},
		"no key to compact by":        {"cleanup.policy", "compact", func(event *message.Message) { delete(event.Metadata, dedup.MetaKey) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refuses(t, test.setting, test.value, test.spoil)
		})
	}
}

func incompressible(size int) []byte {
	random := rand.New(rand.NewPCG(9, 10))
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = byte(random.Uint32())
	}
	return payload
}

func refuses(t *testing.T, setting, value string, spoil func(*message.Message)) {
	config := fast(realKafka(t))
	config.CreateTopics, config.Partitions, config.MaxTime = true, 1, 200*time.Millisecond
	config.SessionTimeout, config.TransactionTimeout = 30*time.Second, 20*time.Second
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	input := newTopic(t)
	outputs, group := input+".out", "group-"+input
	client, err := kgo.NewClient(kgo.SeedBrokers(config.Brokers...))
	require.NoError(t, err)
	defer client.Close()
	made, err := kafka.Admin(client).CreateTopic(t.Context(), 1, 1, map[string]*string{setting: &value}, outputs)
	require.NoError(t, errors.Join(err, made.Err))

	subscription := adapters.Subscription{Group: group, MaxDeliveries: 3, RedeliveryDelay: 10 * time.Millisecond}
	defer passOn(t, broker, input, subscription, func(*message.Message) string { return outputs })()

	var all []*message.Message
	for i, event := range events(40) {
		if i%20 == 10 {
			spoil(event)
		}
		all = append(all, event)
	}
	require.NoError(t, broker.Publisher().Publish(input, all...))
	values := func(topic string) int {
		values, err := raw.Values(within(t, 20*time.Second), config.Brokers, topic)
		if err != nil {
			return -1
		}
		return len(values)
	}
	require.Eventually(t, func() bool { return values(input+".dead") == 2 }, 30*time.Second, 50*time.Millisecond, "the events are not given up")
	require.Eventually(t, func() bool {
		lag, err := broker.Lag(t.Context(), group, input)
		return err == nil && lag == 0
	}, 30*time.Second, 50*time.Millisecond, "the group stands still")
	require.Equal(t, 38, values(outputs))
	require.Equal(t, 2, values(input+".dead"))
}
