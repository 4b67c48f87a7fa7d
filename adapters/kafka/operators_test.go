package kafka_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
)

// Two operators remove letters at the same time: what one has removed does not come back
// with what the other notes.
func TestTwoOperatorsRemoveLetters(t *testing.T) {
	t.Parallel()
	config := fast(realKafka(t))
	config.CreateTopics, config.Partitions = true, 1
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	topic := newTopic(t)
	for _, uuid := range []string{"1", "2", "3", "4", "5"} {
		require.NoError(t, broker.Publisher().Publish(topic, message.NewMessage(uuid, []byte(uuid))))
	}
	remove := func(uuid string, meanwhile func()) (seen []string) {
		require.NoError(t, broker.Letters(t.Context(), topic, func(letter *message.Message) (bool, error) {
			if seen = append(seen, letter.UUID); letter.UUID == uuid {
				meanwhile()
			}
			return letter.UUID == uuid, nil
		}))
		return seen
	}
	remove("2", func() { remove("4", func() {}) }) // out of order: noted beside the offset
	require.Equal(t, []string{"1", "3", "5"}, remove("", func() {}))
	remove("3", func() { remove("1", func() {}) }) // the offset moves meanwhile
	require.Equal(t, []string{"5"}, remove("", func() {}))
}

// Letters that came one by one, each in a transaction of its own, have markers between them:
// as many as there are can be removed, also behind one that stays.
func TestLettersOfManyTransactionsAreRemoved(t *testing.T) {
	t.Parallel()
	const letters = 1200
	for name, stays := range map[string]int{"all": 0, "all but the oldest": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := fast(realKafka(t))
			config.Partitions = 1
			broker, err := kafka.Open(t.Context(), config)
			require.NoError(t, err)
			defer func() { require.NoError(t, broker.Close()) }()
			topic := newTopic(t)
			require.NoError(t, subscribeInitialize(broker, topic))
			producer, err := kgo.NewClient(kgo.SeedBrokers(config.Brokers...), kgo.TransactionalID(topic), kgo.ProducerLinger(0), kgo.ConcurrentTransactionsBackoff(time.Millisecond))
			require.NoError(t, err)
			defer producer.Close()
			for i := range letters {
				require.NoError(t, producer.BeginTransaction())
				require.NoError(t, producer.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(fmt.Sprint(i))}).FirstErr())
				require.NoError(t, producer.EndTransaction(t.Context(), kgo.TryCommit))
			}
			met := 0
			require.NoError(t, broker.Letters(t.Context(), topic, func(*message.Message) (bool, error) {
				met++
				return met > stays, nil
			}))
			require.Equal(t, letters, met)
			left := 0
			require.NoError(t, broker.Letters(t.Context(), topic, func(*message.Message) (bool, error) {
				left++
				return false, nil
			}))
			require.Equal(t, stays, left)
		})
	}
}

func subscribeInitialize(broker *kafka.Broker, topic string) error {
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "maker"})
	if err != nil {
		return err
	}
	return subscriber.(message.SubscribeInitializer).SubscribeInitialize(topic)
}
