package kafka_test

import (
	"context"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/dedup"
)

// A partition that is lost while the log of another one is still read gives the memory
// of its table back once.
func TestMemoryOfAPartitionLostWhileRestoring(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	require.NoError(t, err)
	defer cluster.Close()
	config := fast(cluster.ListenAddrs())
	config.Partitions = 2
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	topic, scope := newTopic(t), dedup.Scope{Service: "test", Handler: "handler"}
	_, err = broker.Strategy(dedup.StrategyTransaction, adapters.StrategyOptions{Scope: scope, Group: "group", Window: time.Hour})
	require.NoError(t, err)
	subscribe := func() message.Subscriber {
		subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", DrainTimeout: time.Second})
		require.NoError(t, err)
		_, err = subscriber.Subscribe(t.Context(), topic)
		require.NoError(t, err)
		return subscriber
	}
	require.NoError(t, subscribe().Close()) // makes the log

	// The one partition's log can be read to its end, the other's not yet.
	owner, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID("owner"))
	require.NoError(t, err)
	defer owner.Close()
	logged := func(partition int32, event string) {
		require.NoError(t, owner.BeginTransaction())
		require.NoError(t, owner.ProduceSync(t.Context(), &kgo.Record{
			Topic: kafka.IDLogName("group", topic), Partition: partition, Value: kafka.LogOf(scope, event),
		}).FirstErr())
	}
	logged(0, "readable")
	require.NoError(t, owner.EndTransaction(t.Context(), kgo.TryCommit))
	logged(1, "open")
	subscriber := subscribe()
	until := func(reached func(kafka.Stats) bool, what string) {
		t.Helper()
		require.Eventually(t, func() bool {
			stats, err := broker.Stats(t.Context())
			return err == nil && reached(stats)
		}, 20*time.Second, 5*time.Millisecond, what)
	}
	until(func(stats kafka.Stats) bool { return stats.IDs == 1 }, "nothing was restored")

	cluster.ControlKey(kmsg.Heartbeat.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		answer := request.ResponseKind().(*kmsg.HeartbeatResponse)
		answer.ErrorCode = kerr.UnknownMemberID.Code
		return answer, nil, true
	})
	until(func(stats kafka.Stats) bool { return stats.LostPartitions == 2 && stats.IDs == 1 }, "the partitions did not go and come back")
	require.NoError(t, owner.EndTransaction(t.Context(), kgo.TryCommit))
	until(func(stats kafka.Stats) bool { return stats.IDs == 2 }, "not everything was restored")
	require.NoError(t, subscriber.Close())
	until(func(stats kafka.Stats) bool { return stats.IDBytes == 0 }, "memory was given back that was not taken, or was not given back")
}

// All that the log has is out of the window, and is deleted when its extent is known and
// nothing of it was read yet: there is nothing to wait for.
func TestLogIsDeletedBeforeItIsRead(t *testing.T) {
	t.Parallel()
	for name, brokers := range map[string][]string{"fake": fakeKafka(t), "real": realKafka(t)} {
		t.Run(name, func(t *testing.T) {
			client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
			require.NoError(t, err)
			defer client.Close()
			topic, scope := newTopic(t), dedup.Scope{Service: "test", Handler: "handler"}
			log := kafka.IDLogName("group-"+topic, topic)
			config := fast(brokers)
			config.Partitions = 1
			kafka.BeforeReading(&config, func() {
				offsets := kadm.Offsets{}
				offsets.AddOffset(log, 0, 1, -1)
				_, err := kafka.Admin(client).DeleteRecords(t.Context(), offsets)
				require.NoError(t, err)
			})
			broker, err := kafka.Open(t.Context(), config)
			require.NoError(t, err)
			defer func() { require.NoError(t, broker.Close()) }()
			strategy, err := broker.Strategy(dedup.StrategyTransaction, adapters.StrategyOptions{Scope: scope, Group: "group-" + topic, Window: time.Hour})
			require.NoError(t, err)
			subscribe := func() (message.Subscriber, <-chan *message.Message) {
				subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group-" + topic, DrainTimeout: time.Second})
				require.NoError(t, err)
				messages, err := subscriber.Subscribe(t.Context(), topic)
				require.NoError(t, err)
				return subscriber, messages
			}
			first, _ := subscribe() // makes the log
			require.NoError(t, first.Close())
			require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: log, Value: kafka.LogOf(scope, "old")}).FirstErr())

			require.NoError(t, broker.Publisher().Publish(topic, message.NewMessage("uuid", nil)))
			_, messages := subscribe()
			claimsFresh(t, strategy, scope, messages)
		})
	}
}

// The log of processed IDs is deleted, as a check may advise, and the consumer begins anew
// in its group before it has committed anything more: the log is made again.
func TestLogIsDeletedBeforeItIsRestored(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	require.NoError(t, err)
	defer cluster.Close()
	broker, err := kafka.Open(t.Context(), fast(cluster.ListenAddrs()))
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	topic, scope := newTopic(t), dedup.Scope{Service: "test", Handler: "handler"}
	strategy, err := broker.Strategy(dedup.StrategyTransaction, adapters.StrategyOptions{Scope: scope, Group: "group", Window: time.Hour})
	require.NoError(t, err)
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", DrainTimeout: time.Second})
	require.NoError(t, err)
	messages, err := subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	require.NoError(t, err)
	defer client.Close()
	_, err = kafka.Admin(client).DeleteTopics(t.Context(), kafka.IDLogName("group", topic))
	require.NoError(t, err)
	cluster.ControlKey(kmsg.Heartbeat.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		answer := request.ResponseKind().(*kmsg.HeartbeatResponse)
		answer.ErrorCode = kerr.UnknownMemberID.Code
		return answer, nil, true
	})
	require.Eventually(t, func() bool {
		stats, err := broker.Stats(t.Context())
		return err == nil && stats.LostPartitions == 3 && stats.Groups[0].Partitions == 3
	}, 20*time.Second, 5*time.Millisecond, "the partitions did not go and come back")

	require.NoError(t, broker.Publisher().Publish(topic, message.NewMessage("uuid", nil)))
	claimsFresh(t, strategy, scope, messages)
}

// claimsFresh takes a message and its claim, for which the processed IDs must be restored.
func claimsFresh(t *testing.T, strategy dedup.Strategy, scope dedup.Scope, messages <-chan *message.Message) {
	t.Helper()
	select {
	case msg := <-messages:
		ctx, cancel := context.WithTimeout(msg.Context(), 20*time.Second)
		defer cancel()
		event := &dedup.Event{Message: msg, Entry: dedup.Entry{ID: dedup.NewID(scope, "new")}}
		_, err := strategy.Claim(ctx, []*dedup.Event{event})
		require.NoError(t, err, "the processed IDs are still being restored")
		require.Equal(t, dedup.Fresh, event.Verdict)
		msg.Ack()
	case <-time.After(20 * time.Second):
		require.FailNow(t, "no message came")
	}
}
