// Package raw is Kafka by hand, without Watermill and without Hapax: the loop that
// benchmarks compare with, and an independent look at what is on a topic.
package raw

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	wmkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Reset deletes topics with their offsets, and makes the first list of them anew.
func Reset(ctx context.Context, brokers []string, partitions int32, anew []string, gone ...string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		return fmt.Errorf("open client: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	all := append(slices.Clone(gone), anew...)
	if _, err := admin.DeleteTopics(ctx, all...); err != nil {
		return fmt.Errorf("delete topics %q: %w", all, err)
	}
	if err := await(ctx, admin, func(t kadm.TopicDetail) bool { return len(t.Partitions) == 0 }, all...); err != nil {
		return fmt.Errorf("delete topics %q: %w", all, err)
	}
	if len(anew) == 0 { // to await none would be to await every topic
		return nil
	}
	made, err := admin.CreateTopics(ctx, partitions, -1, nil, anew...)
	if err == nil {
		err = made.Error()
	}
	if err == nil {
		err = await(ctx, admin, func(t kadm.TopicDetail) bool { return t.Err == nil && len(t.Partitions) == int(partitions) }, anew...)
	}
	if err != nil {
		return fmt.Errorf("create topics %q: %w", anew, err)
	}
	return nil
}

// Grow gives a topic more partitions.
func Grow(ctx context.Context, brokers []string, partitions int, topic string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		return fmt.Errorf("open client: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	grown, err := admin.UpdatePartitions(ctx, partitions, topic)
	if err == nil {
		err = grown.Error()
	}
	if err == nil {
		err = await(ctx, admin, func(t kadm.TopicDetail) bool { return t.Err == nil && len(t.Partitions) == partitions }, topic)
	}
	if err != nil {
		return fmt.Errorf("add partitions to topic %q: %w", topic, err)
	}
	return nil
}

// await waits until all topics are as they should be.
func await(ctx context.Context, admin *kadm.Client, done func(kadm.TopicDetail) bool, topics ...string) error {
	for {
		found, err := admin.ListTopics(ctx, topics...)
		if err == nil && !slices.ContainsFunc(topics, func(topic string) bool { return !done(found[topic]) }) {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Values returns the committed records of a topic, up to its end of now, in order
// per partition.
func Values(ctx context.Context, brokers []string, topic string) (values [][]byte, err error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, fmt.Errorf("open client: %w", err)
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("find the end of topic %q: %w", topic, err)
	}
	left := map[int32]int64{}
	for number, end := range ends[topic] {
		if end.Offset > 0 {
			left[number] = end.Offset
		}
	}
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("read topic %q: %w", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				values = append(values, r.Value)
			}
			if end, reading := left[r.Partition]; reading && r.Offset >= end-1 {
				delete(left, r.Partition)
			}
		})
	}
	return values, nil
}

// Loop is a consume, process, produce loop in transactions, as one would write it
// with franz-go: poll, begin, produce, end.
type Loop struct {
	Brokers              []string
	Input, Output, Group string
	// Batch is the most records of a transaction.
	Batch int
	// Produce passes every record on to Output.
	Produce bool
	// Total is the number of records after which it ends.
	Total int
	// Ready is called when the group has assigned partitions.
	Ready func()
	// Handle is called for each record with its Watermill UUID, and Done once it
	// is committed.
	Handle, Done func(uuid string)
}

// Run runs the loop.
func (l Loop) Run(ctx context.Context) error {
	ready := sync.OnceFunc(l.Ready)
	session, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(l.Brokers...), kgo.ConsumerGroup(l.Group), kgo.ConsumeTopics(l.Input), kgo.DefaultProduceTopic(l.Output),
		kgo.TransactionalID(uuid.NewString()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(500*time.Millisecond),
		kgo.ConcurrentTransactionsBackoff(2*time.Millisecond),
		kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { ready() }),
	)
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	defer session.Close()
	for done := 0; done < l.Total; {
		fetches := session.PollRecords(ctx, l.Batch)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("poll: %w", err)
		}
		records := fetches.Records()
		if len(records) == 0 {
			continue
		}
		if err := session.Begin(); err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		promise := kgo.AbortingFirstErrPromise(session.Client())
		for _, record := range records {
			l.Handle(uuidOf(record))
			if l.Produce {
				session.Produce(ctx, &kgo.Record{Key: record.Key, Value: record.Value, Headers: record.Headers}, promise.Promise())
			}
		}
		committed, err := session.End(ctx, promise.Err() == nil)
		if err != nil {
			return fmt.Errorf("end: %w", err)
		}
		if committed {
			for _, record := range records {
				l.Done(uuidOf(record))
			}
			done += len(records)
		}
	}
	return nil
}

func uuidOf(record *kgo.Record) string {
	for _, header := range record.Headers {
		if header.Key == wmkafka.UUIDHeaderKey {
			return string(header.Value)
		}
	}
	return ""
}
