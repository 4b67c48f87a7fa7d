package kafka_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/dedup"
)

// BenchmarkLatency measures, at 1,000 events a second and with handlers of 5 ms, the
// time from publishing an event to reading its output with read_committed:
//
//	go test -run '^$' -bench Latency -benchtime 5000x ./adapters/kafka
func BenchmarkLatency(b *testing.B) {
	for _, interval := range []time.Duration{10 * time.Millisecond, 50 * time.Millisecond, 200 * time.Millisecond} {
		b.Run("max_time="+interval.String(), func(b *testing.B) { benchmarkLatency(b, interval) })
	}
}

func benchmarkLatency(b *testing.B, interval time.Duration) {
	brokers := realKafka(b)
	broker, err := kafka.Open(b.Context(), kafka.Config{Brokers: brokers, Logger: quiet, CreateTopics: true, Partitions: 4, MaxTime: interval})
	require.NoError(b, err)
	defer func() { require.NoError(b, broker.Close()) }()
	input := newTopic(b)
	once, subscriber := onceOn(b, broker, input)
	for _, topic := range []string{input, input + ".out"} {
		require.NoError(b, subscriber.(message.SubscribeInitializer).SubscribeInitialize(topic))
	}
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	require.NoError(b, err)
	router.AddHandler("pass", input, subscriber, input+".out", broker.Publisher(), func(msg *message.Message) ([]*message.Message, error) {
		time.Sleep(5 * time.Millisecond) // the handler's work
		return []*message.Message{message.NewMessage("", msg.Payload)}, nil
	}).AddMiddleware(once.Wrap)
	ended := make(chan error, 1)
	go func() { ended <- router.Run(context.Background()) }()
	<-router.Running()

	reader, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(input+".out"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(100*time.Millisecond), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(b, err)
	defer reader.Close()
	// What comes first also warms up, and is not counted.
	const warm = 500
	sending := make(chan error, 1)
	started := time.Now()
	go func() {
		var errs []error
		for i := range b.N + warm {
			due := started.Add(time.Duration(i) * time.Millisecond)
			time.Sleep(time.Until(due))
			payload := binary.BigEndian.AppendUint64(make([]byte, 0, 1024), uint64(due.UnixNano()))
			errs = append(errs, broker.Publisher().Publish(input, message.NewMessage(fmt.Sprint("event-", i), payload[:1024])))
		}
		sending <- errors.Join(errs...)
	}()
	var latencies []time.Duration
	for len(latencies) < b.N+warm {
		fetches := reader.PollFetches(b.Context())
		require.NoError(b, fetches.Err())
		now := time.Now()
		fetches.EachRecord(func(r *kgo.Record) {
			latencies = append(latencies, now.Sub(time.Unix(0, int64(binary.BigEndian.Uint64(r.Value)))))
		})
	}
	b.StopTimer()
	require.NoError(b, <-sending)
	require.NoError(b, router.Close())
	require.NoError(b, <-ended)
	latencies = latencies[warm:]
	slices.Sort(latencies)
	b.ReportMetric(0, "ns/op")
	for name, at := range map[string]float64{"p50-ms": 0.5, "p99-ms": 0.99} {
		b.ReportMetric(float64(latencies[int(at*float64(len(latencies)-1))].Microseconds())/1000, name)
	}
}

func onceOn(b testing.TB, broker *kafka.Broker, group string) (*dedup.Middleware, message.Subscriber) {
	scope := dedup.Scope{Service: "bench", Handler: group}
	strategy, err := broker.Strategy(dedup.StrategyTransaction, adapters.StrategyOptions{Scope: scope, Group: group, Window: time.Hour})
	require.NoError(b, err)
	once, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy})
	require.NoError(b, err)
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: group})
	require.NoError(b, err)
	return once, subscriber
}

// BenchmarkRestore measures how long a consumer that is new on four partitions
// takes to know the million IDs of their window, and what an ID takes in memory and
// on the wire:
//
//	go test -run '^$' -bench Restore -benchtime 3x ./adapters/kafka
func BenchmarkRestore(b *testing.B) {
	const partitions, ids, perRecord = 4, 1_000_000, 500
	brokers := realKafka(b)
	config := kafka.Config{Brokers: brokers, Logger: quiet, CreateTopics: true, Partitions: partitions}
	broker, err := kafka.Open(b.Context(), config)
	require.NoError(b, err)
	input := newTopic(b)
	_, subscriber := onceOn(b, broker, input)
	ctx, stop := context.WithCancel(b.Context())
	messages, err := subscriber.Subscribe(ctx, input) // makes the topic and its log
	require.NoError(b, err)
	stop()
	for range messages {
		require.Fail(b, "a message on an empty topic")
	}
	require.NoError(b, broker.Close())
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(b, err)
	defer client.Close()
	scope := dedup.Scope{Service: "bench", Handler: input}
	var records []*kgo.Record
	wire := 0
	for i := range ids / perRecord {
		events := make([]string, perRecord)
		for j := range events {
			events[j] = fmt.Sprint("event-", i*perRecord+j)
		}
		record := &kgo.Record{Topic: kafka.IDLogName(input, input), Partition: int32(i % partitions), Value: kafka.LogOf(scope, events...)}
		wire += len(record.Value)
		records = append(records, record)
	}
	require.NoError(b, client.ProduceSync(b.Context(), records...).FirstErr())

	var stats kafka.Stats
	for b.Loop() {
		broker, err := kafka.Open(b.Context(), config)
		require.NoError(b, err)
		_, subscriber := onceOn(b, broker, input)
		_, err = subscriber.Subscribe(b.Context(), input)
		require.NoError(b, err)
		for stats = (kafka.Stats{}); stats.IDs < ids; {
			stats, err = broker.Stats(b.Context())
			require.NoError(b, err)
		}
		b.StopTimer()
		require.NoError(b, broker.Close())
		b.StartTimer()
	}
	require.Equal(b, ids, stats.IDs)
	b.ReportMetric(float64(stats.IDBytes)/ids, "B/ID-in-memory")
	b.ReportMetric(float64(wire)/ids, "B/ID-logged")
}
