package redis_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/adapters/redis/plain"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/servers"
)

func openShared(t *testing.T, change func(*redis.Config)) *redis.Broker {
	t.Helper()
	config := redis.Config{Addresses: servers.Require(t, servers.Redis).Hosts, Logger: quiet, Lease: time.Second}
	if change != nil {
		change(&config)
	}
	broker, err := redis.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	return broker
}

func subscribe(t *testing.T, broker *redis.Broker, topic string, subscription adapters.Subscription) <-chan *message.Message {
	t.Helper()
	if subscription.Group == "" {
		subscription.Group = "group"
	}
	subscriber, err := broker.Subscriber(subscription)
	require.NoError(t, err)
	messages, err := subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	return messages
}

func receive(t *testing.T, messages <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case msg, open := <-messages:
		require.True(t, open, "the channel was closed")
		return msg
	case <-time.After(20 * time.Second):
		require.FailNow(t, "no message came")
		return nil
	}
}

func sample() *message.Message {
	msg := message.NewMessage("uuid", []byte("\x00payload\xff"))
	msg.Metadata.Set(dedup.MetaKey, "key")
	msg.Metadata.Set("name", "välue")
	for _, length := range []int{31, 32, 255, 256, 65_536} { // each has a header of its own
		msg.Metadata.Set(fmt.Sprint(length), strings.Repeat("x", length))
	}
	return msg
}

// What the official publisher writes, with and without metadata, is read here.
func TestReadsTheOfficialFormat(t *testing.T) {
	broker, topic := openShared(t, nil), newTopic(t)
	publisher, err := plain.Server{Address: servers.Require(t, servers.Redis).Hosts[0]}.Publisher()
	require.NoError(t, err)
	defer func() { require.NoError(t, publisher.Close()) }()
	require.NoError(t, publisher.Publish(topic, sample(), message.NewMessage("bare", []byte("x"))))
	messages := subscribe(t, broker, topic, adapters.Subscription{})
	msg := receive(t, messages)
	require.Equal(t, "uuid", msg.UUID)
	require.Equal(t, sample().Payload, msg.Payload)
	require.Equal(t, sample().Metadata, msg.Metadata)
	msg.Ack()
	bare := receive(t, messages)
	require.Equal(t, "bare", bare.UUID)
	bare.Metadata.Set("a handler may", "write")
	bare.Ack()
}

// What is published here the official subscriber reads.
func TestWritesTheOfficialFormat(t *testing.T) {
	broker, topic := openShared(t, nil), newTopic(t)
	require.NoError(t, broker.Publisher().Publish(topic, sample()))
	subscriber, err := plain.Server{Address: servers.Require(t, servers.Redis).Hosts[0]}.Subscriber("group", time.Minute)
	require.NoError(t, err)
	defer func() { require.NoError(t, subscriber.Close()) }()
	messages, err := subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	msg := receive(t, messages)
	require.Equal(t, "uuid", msg.UUID)
	require.Equal(t, sample().Payload, msg.Payload)
	for name, value := range sample().Metadata {
		require.Equal(t, value, msg.Metadata.Get(name))
	}
	require.NotEmpty(t, msg.Metadata.Get(dedup.MetaPublishedAt))
	msg.Ack()
}

// What the official subscriber read and forgot is taken over.
func TestTakesOverFromTheOfficialSubscriber(t *testing.T) {
	broker, topic := openShared(t, nil), newTopic(t)
	require.NoError(t, broker.Publisher().Publish(topic, sample()))
	subscriber, err := plain.Server{Address: servers.Require(t, servers.Redis).Hosts[0]}.Subscriber("group", time.Minute)
	require.NoError(t, err)
	forgotten, err := subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	receive(t, forgotten)
	require.NoError(t, subscriber.Close())
	msg := receive(t, subscribe(t, broker, topic, adapters.Subscription{}))
	require.Equal(t, "uuid", msg.UUID)
	msg.Ack()
}

// A stream that does not exist has no groups: that is no error.
func TestStatsOfAMissingStream(t *testing.T) {
	t.Parallel()
	stats, err := openShared(t, nil).Stats(t.Context(), newTopic(t))
	require.NoError(t, err)
	require.Empty(t, stats)
}
