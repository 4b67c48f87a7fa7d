package live

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hapax-go/hapax/internal/servers"
)

type kafkaPeer struct{ brokers []string }

func (p *Place) kafka(t testing.TB) peer {
	brokers := servers.Require(t, servers.Kafka).Hosts
	p.set("HAPAX_KAFKA_BROKERS", strings.Join(brokers, ","))
	p.set("HAPAX_KAFKA_CREATE_TOPICS", "true")
	t.Cleanup(func() {
		client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
		require.NoError(t, err)
		defer client.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		admin := kadm.NewClient(client)
		topics, err := admin.ListTopics(ctx)
		require.NoError(t, err)
		var ours []string
		for _, topic := range topics.Names() {
			if strings.Contains(topic, p.prefix) { // the topics, and their logs of processed IDs
				ours = append(ours, topic)
			}
		}
		_, err = admin.DeleteTopics(ctx, ours...)
		require.NoError(t, err)
	})
	return kafkaPeer{brokers}
}

// read returns what is committed, up to the end of now.
func (p kafkaPeer) read(t testing.TB, topic string) (payloads [][]byte, again bool) {
	client, err := kgo.NewClient(kgo.SeedBrokers(p.brokers...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer client.Close()
	ends, err := kadm.NewClient(client).ListCommittedOffsets(t.Context(), topic)
	require.NoError(t, err)
	if errors.Is(ends.Error(), kerr.UnknownTopicOrPartition) {
		return nil, true // it was made just now
	}
	require.NoError(t, ends.Error())
	left := map[int32]int64{}
	for partition, end := range ends[topic] {
		if end.Offset > 0 {
			left[partition] = end.Offset
		}
	}
	for len(left) > 0 {
		fetched := client.PollFetches(t.Context())
		require.NoError(t, fetched.Err())
		fetched.EachRecord(func(record *kgo.Record) {
			if !record.Attrs.IsControl() {
				payloads = append(payloads, record.Value)
			}
			if record.Offset+1 >= left[record.Partition] {
				delete(left, record.Partition)
			}
		})
	}
	return payloads, true
}
