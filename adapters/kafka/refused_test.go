package kafka_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/adapters/kafka/raw"
	"github.com/hapax-go/hapax/dedup"
)

// The broker refuses a batch while the call that it is of still adds messages, which are more
// than the client buffers: none behind those that were refused may be in the topic, or they
// would overtake them when all are published again.
func TestNothingOvertakesWhatWasRefused(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	defer cluster.Close()
	config := fast(cluster.ListenAddrs())
	config.Partitions = 1
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	topic := newTopic(t)
	require.NoError(t, broker.Publisher().Publish(topic, keyed("before")))

	requests := 0
	cluster.ControlKey(kmsg.Produce.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		requests++
		return refuseProduce(request.(*kmsg.ProduceRequest), kerr.InvalidRecord), nil, requests == 2
	})
	messages := make([]*message.Message, 120_000)
	for i := range messages {
		messages[i] = keyed(fmt.Sprint(i))
	}
	require.ErrorIs(t, broker.Publisher().Publish(topic, messages...), kerr.InvalidRecord)
	require.NoError(t, broker.Publisher().Publish(topic, keyed("after")))
	values, err := raw.Values(within(t, 20*time.Second), config.Brokers, topic)
	require.NoError(t, err)
	sent := values[1 : len(values)-1]
	for i, value := range sent {
		require.Equal(t, fmt.Sprint(i), string(value), "later messages are there and earlier ones are not")
	}
	require.Less(t, len(sent), len(messages))
}

func keyed(text string) *message.Message {
	msg := message.NewMessage(text, []byte(text))
	msg.Metadata.Set(dedup.MetaKey, "key")
	return msg
}

// Messages that the broker refuses fail, and those that others publish at the same time to
// the same partition do not.
func TestRefusedMessagesFailAlone(t *testing.T) {
	t.Parallel()
	config := fast(realKafka(t))
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	client, err := kgo.NewClient(kgo.SeedBrokers(config.Brokers...))
	require.NoError(t, err)
	defer client.Close()
	topic, compact := newTopic(t), "compact" // nothing without a key
	made, err := kafka.Admin(client).CreateTopic(t.Context(), 1, 1, map[string]*string{"cleanup.policy": &compact}, topic)
	require.NoError(t, errors.Join(err, made.Err))

	var over atomic.Bool
	var others sync.WaitGroup
	refused := 0
	others.Go(func() {
		for ; !over.Load() || refused == 0; refused++ {
			if !errors.Is(broker.Publisher().Publish(topic, message.NewMessage("bad", nil)), kerr.InvalidRecord) {
				t.Error("a message without a key was not refused")
				return
			}
		}
	})
	publish := func(messages ...*message.Message) {
		for range 40 {
			if err := broker.Publisher().Publish(topic, messages...); err != nil {
				t.Error("a message was refused for another one's fault:", err)
				return
			}
		}
	}
	var good sync.WaitGroup
	for range 3 {
		good.Go(func() { publish(keyed("one")) })
		good.Go(func() { publish(keyed("one"), keyed("two"), keyed("three")) })
	}
	good.Wait()
	over.Store(true)
	others.Wait()
}
