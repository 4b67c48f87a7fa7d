package kafka_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/internal/fault"
)

// reader reads a topic with read_committed and nothing else in between.
type reader struct {
	client *kgo.Client
	topic  string
	mu     sync.Mutex
	found  []fault.Effect
	ends   map[int32]int64
}

func newReader(t *testing.T, brokers []string, topic string) *reader {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	r := &reader{client: client, topic: topic, ends: map[int32]int64{}}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			fetches := client.PollFetches(context.Background())
			if fetches.IsClientClosed() {
				return
			}
			r.mu.Lock()
			fetches.EachRecord(func(record *kgo.Record) {
				r.ends[record.Partition] = record.Offset + 1
				var effect fault.Effect
				if !record.Attrs.IsControl() && json.Unmarshal(record.Value, &effect) == nil {
					effect.Position = int64(len(r.found))
					r.found = append(r.found, effect)
				}
			})
			r.mu.Unlock()
		}
	})
	t.Cleanup(func() { client.Close(); done.Wait() })
	return r
}

func (r *reader) count() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int64(len(r.found))
}

func (r *reader) effects() []fault.Effect {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]fault.Effect{}, r.found...)
}

// settle waits until everything written was read: no transaction stays open, and
// no partition's last stable offset stays behind.
func (r *reader) settle(t *testing.T) {
	t.Helper()
	admin := kafka.Admin(r.client)
	require.Eventually(t, func() bool {
		ends, err := admin.ListEndOffsets(t.Context(), r.topic)
		require.NoError(t, err)
		stable, err := admin.ListCommittedOffsets(t.Context(), r.topic)
		require.NoError(t, err)
		r.mu.Lock()
		defer r.mu.Unlock()
		for number, end := range ends[r.topic] {
			if last, _ := stable.Lookup(r.topic, number); last.Offset != end.Offset || end.Offset > r.ends[number] {
				return false
			}
		}
		return true
	}, 30*time.Second, 20*time.Millisecond, "an open transaction holds the last stable offset")
}
