package kafka_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/dedup"
)

// A consumer that was silent for too long wakes up and commits a message, while an
// older one of the partition is still being handled: so there is no offset to move.
// The group has to be asked all the same, or nobody would refuse the commit.
func TestAZombieCommitsNothingBehindAnOlderMessage(t *testing.T) {
	brokers := realKafka(t)
	topic, scope := newTopic(t), dedup.Scope{Service: "test", Handler: "zombie"}
	join := func() (*kafka.Cables, dedup.Strategy, <-chan *message.Message, *kafka.Broker) {
		config := fast(brokers)
		config.Partitions = 1
		cables := kafka.WithCables(&config)
		broker, err := kafka.Open(t.Context(), config)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, broker.Close()) })
		strategy, err := broker.Strategy(dedup.StrategyTransaction, adapters.StrategyOptions{Scope: scope, Group: topic, Window: time.Hour})
		require.NoError(t, err)
		subscriber, err := broker.Subscriber(adapters.Subscription{Group: topic, DrainTimeout: -1})
		require.NoError(t, err)
		messages, err := subscriber.Subscribe(t.Context(), topic)
		require.NoError(t, err)
		return cables, strategy, messages, broker
	}
	claim := func(strategy dedup.Strategy, messages <-chan *message.Message) (*dedup.Event, dedup.Claim) {
		msg := <-messages
		id := msg.Metadata.Get(dedup.MetaEventID)
		event := &dedup.Event{Message: msg, Entry: dedup.Entry{ID: dedup.NewID(scope, id), EventID: id, Scope: scope}}
		claim, err := strategy.Claim(msg.Context(), []*dedup.Event{event})
		require.NoError(t, err)
		require.Equal(t, dedup.Fresh, event.Verdict)
		return event, claim
	}
	cables, strategy, messages, broker := join()
	for i := range 2 {
		msg := message.NewMessage(fmt.Sprint(i), nil)
		msg.Metadata.Set(dedup.MetaEventID, fmt.Sprint("event-", i))
		require.NoError(t, broker.Publisher().Publish(topic, msg))
	}
	older, _ := claim(strategy, messages)
	younger, stale := claim(strategy, messages)
	require.Equal(t, "event-0", older.EventID)
	cables.PullGroup()

	_, heirs, inherited, _ := join()
	event, fresh := claim(heirs, inherited)
	for event.EventID != younger.EventID {
		event, fresh = claim(heirs, inherited)
	}
	require.ErrorIs(t, stale.Commit(context.Background(), nil), dedup.ErrLeaseLost)
	require.NoError(t, fresh.Commit(context.Background(), nil))
}

func TestAMissingTopicIsNamed(t *testing.T) {
	config := fast(realKafka(t))
	config.CreateTopics = false
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	topic := newTopic(t)
	err = broker.Publisher().Publish(topic, message.NewMessage("1", nil))
	require.ErrorIs(t, err, kafka.ErrNoTopic)
	require.ErrorContains(t, err, topic)
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group"})
	require.NoError(t, err)
	_, err = subscriber.Subscribe(t.Context(), topic)
	require.ErrorIs(t, err, kafka.ErrNoTopic)
	require.ErrorContains(t, err, "create_topics")
}

func TestConfigsThatCannotWork(t *testing.T) {
	for name, change := range map[string]func(*kafka.Config){
		"no brokers":          func(c *kafka.Config) { c.Brokers = nil },
		"transaction timeout": func(c *kafka.Config) { c.TransactionTimeout = c.SessionTimeout },
		"close long before":   func(c *kafka.Config) { c.MaxTime = c.TransactionTimeout },
		"is negative":         func(c *kafka.Config) { c.MaxRecords = -1 },
		"SASL mechanism":      func(c *kafka.Config) { c.SASL.Mechanism = "kerberos" },
		"no token":            func(c *kafka.Config) { c.SASL.Mechanism = "oauthbearer" },
	} {
		config := fast([]string{"127.0.0.1:1"})
		change(&config)
		_, err := kafka.Open(t.Context(), config)
		require.ErrorContains(t, err, name)
	}
}
