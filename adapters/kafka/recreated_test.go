package kafka_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/adapters/kafka/raw"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/written"
)

// A topic that was deleted and made anew has another ID. Clients that hold the
// old one must take the new one up.
func TestRecreatedTopicIsPublishedTo(t *testing.T) {
	t.Parallel()
	brokers := realKafka(t)
	broker, err := kafka.Open(t.Context(), fast(brokers))
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	topic := newTopic(t)
	publisher := broker.Publisher()
	require.NoError(t, publisher.Publish(topic, message.NewMessage("before", nil)))

	for round := range 3 {
		require.NoError(t, raw.Reset(within(t, 20*time.Second), brokers, 2, []string{topic}))
		// Concurrent callers meet the change together.
		var callers sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			callers.Go(func() { errs[i] = publisher.Publish(topic, message.NewMessage(fmt.Sprintf("%d-%d", round, i), nil)) })
		}
		callers.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		values, err := raw.Values(within(t, 20*time.Second), brokers, topic)
		require.NoError(t, err)
		require.Len(t, values, len(errs))
	}
}

// A topic that was deleted is made again where topics are made, and else named.
func TestDeletedTopicIsNamed(t *testing.T) {
	t.Parallel()
	brokers := realKafka(t)
	config := fast(brokers)
	config.CreateTopics = false
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	topic := newTopic(t)
	require.NoError(t, raw.Reset(within(t, 20*time.Second), brokers, 1, []string{topic}))
	require.NoError(t, broker.Publisher().Publish(topic, message.NewMessage("before", nil)))
	require.NoError(t, raw.Reset(within(t, 20*time.Second), brokers, 1, nil, topic))
	err = broker.Publisher().Publish(topic, message.NewMessage("after", nil))
	require.ErrorIs(t, err, kafka.ErrNoTopic)
	require.ErrorContains(t, err, topic)
}

// Under a running service, its output and its input are made anew.
func TestRecreatedTopicsOfService(t *testing.T) {
	t.Parallel()
	for _, serverSide := range []bool{false, true} {
		t.Run(fmt.Sprintf("server side %t", serverSide), func(t *testing.T) {
			t.Parallel()
			brokers := realKafka(t)
			broker, err := kafka.Open(t.Context(), fast(brokers))
			require.NoError(t, err)
			defer func() { require.NoError(t, broker.Close()) }()
			o := order{Name: "one", Input: newTopic(t), Group: "group", Brokers: brokers, ServerSide: serverSide}
			o.Group += o.Input
			o.Output = o.Input + ".out"
			require.NoError(t, raw.Reset(within(t, 20*time.Second), brokers, 2, []string{o.Input, o.Output}))
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- service(ctx, o, func(fault.Delivery) {}) }()
			defer func() { stop(); require.NoError(t, <-ended) }()

			number := 0
			pass := func(after string) {
				t.Helper()
				for range 5 {
					number++
					id := fmt.Sprintf("%s-%d", after, number)
					payload, err := json.Marshal(fault.Event{ID: id, Key: "key", Seq: int64(number)})
					require.NoError(t, err)
					msg := message.NewMessage(id, payload)
					msg.Metadata.Set(dedup.MetaEventID, id)
					require.NoError(t, broker.Publisher().Publish(o.Input, msg))
				}
				require.Eventually(t, func() bool {
					values, err := raw.Values(within(t, 20*time.Second), brokers, o.Output)
					require.NoError(t, err)
					return len(values) == 5
				}, 30*time.Second, 50*time.Millisecond, "outputs after: %s", after)
			}
			pass("start")
			require.NoError(t, raw.Reset(within(t, 20*time.Second), brokers, 2, []string{o.Output}))
			pass("output made anew")
			require.NoError(t, raw.Reset(within(t, 20*time.Second), brokers, 3, []string{o.Input, o.Output}))
			pass("input made anew")
		})
	}
}

// A topic is given more partitions while a service consumes it: the log of processed
// IDs follows.
func TestPartitionsAddedUnderService(t *testing.T) {
	t.Parallel()
	brokers := realKafka(t)
	o := order{Name: "one", Input: newTopic(t), Group: "group", Brokers: brokers, ServerSide: true}
	o.Group += o.Input
	o.Output = o.Input + ".out"
	require.NoError(t, raw.Reset(within(t, 20*time.Second), brokers, 1, []string{o.Input, o.Output}))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- service(ctx, o, func(fault.Delivery) {}) }()
	defer func() { stop(); require.NoError(t, <-ended) }()
	outputs := 0
	pass := func(events int) {
		t.Helper()
		outputs += events
		broker, err := kafka.Open(t.Context(), fast(brokers)) // that knows all partitions
		require.NoError(t, err)
		defer func() { require.NoError(t, broker.Close()) }()
		for i := range events {
			id := fmt.Sprintf("%d-%d", outputs, i)
			payload, err := json.Marshal(fault.Event{ID: id, Key: id, Seq: 1})
			require.NoError(t, err)
			for range 2 {
				msg := message.NewMessage("", payload)
				msg.Metadata.Set(dedup.MetaEventID, id)
				msg.Metadata.Set(dedup.MetaKey, id)
				require.NoError(t, broker.Publisher().Publish(o.Input, msg))
			}
		}
		var values [][]byte
		require.Eventually(t, func() bool {
			values, err = raw.Values(within(t, 20*time.Second), brokers, o.Output)
			require.NoError(t, err)
			return len(values) >= outputs
		}, 60*time.Second, 50*time.Millisecond)
		require.Len(t, values, outputs)
	}
	pass(1)
	require.NoError(t, raw.Grow(within(t, 20*time.Second), brokers, 4, o.Input))
	pass(20)
}

// A topic is deleted, and made anew with fewer partitions than its log of processed IDs has:
// that is said, also after it was said that the topic is missing.
func TestRecreatedTopicWithFewerPartitions(t *testing.T) {
	t.Parallel()
	brokers, log := realKafka(t), &written.Text{}
	config := fast(brokers)
	config.CreateTopics, config.Logger = false, slog.New(slog.NewTextHandler(log, nil))
	topic := newTopic(t)
	require.NoError(t, raw.Reset(within(t, 20*time.Second), brokers, 2, []string{topic}))
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	scope := dedup.Scope{Service: "test", Handler: "handler"}
	_, err = broker.Strategy(dedup.StrategyTransaction, adapters.StrategyOptions{Scope: scope, Group: "group" + topic, Window: time.Hour})
	require.NoError(t, err)
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group" + topic})
	require.NoError(t, err)
	_, err = subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	told := func(text string) {
		t.Helper()
		require.Eventually(t, func() bool { return strings.Contains(log.String(), text) }, 30*time.Second, 10*time.Millisecond, "not told: %s", text)
	}
	require.NoError(t, raw.Reset(within(t, 20*time.Second), brokers, 2, nil, topic))
	told("the topic was deleted, or")
	require.NoError(t, raw.Reset(within(t, 20*time.Second), brokers, 1, []string{topic}))
	told("has 2 partitions, expected 1")
}

// Brokers before 3.1 say no more of a topic that was made anew than that it does not have the
// offset.
func TestRecreatedTopicOfOldBrokers(t *testing.T) {
	t.Parallel()
	for name, version := range map[string]*kversion.Versions{"2.7": kversion.V2_7_0(), "3.0": kversion.V3_0_0()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			brokers := fakeKafka(t, kfake.MaxVersions(version))
			broker, err := kafka.Open(t.Context(), fast(brokers))
			require.NoError(t, err)
			defer func() { require.NoError(t, broker.Close()) }()
			topic := newTopic(t)
			require.NoError(t, raw.Reset(within(t, 20*time.Second), brokers, 1, []string{topic}))
			subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", DrainTimeout: time.Second})
			require.NoError(t, err)
			messages, err := subscriber.Subscribe(t.Context(), topic)
			require.NoError(t, err)
			pass := func(ids ...string) {
				t.Helper()
				for _, id := range ids {
					require.NoError(t, broker.Publisher().Publish(topic, message.NewMessage(id, nil)))
				}
				for _, id := range ids {
					select {
					case msg := <-messages:
						require.Equal(t, id, msg.UUID)
						msg.Ack()
					case <-time.After(30 * time.Second):
						require.FailNow(t, "no message", id)
					}
				}
			}
			pass("1", "2", "3", "4", "5")
			require.NoError(t, raw.Reset(within(t, 20*time.Second), brokers, 1, []string{topic}))
			pass("6", "7", "8")
		})
	}
}
