package redis_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/internal/servers"
)

// Close does not wait for a server that is away: not for the acknowledgement of what
// was acked, nor for the lease it would give back.
func TestCloseWithoutServer(t *testing.T) {
	t.Parallel()
	through := listen(t, servers.Require(t, servers.Redis).Hosts[0])
	broker, err := redis.Open(t.Context(), redis.Config{Addresses: []string{through.Addr()}, Logger: quiet, Timeout: time.Second})
	require.NoError(t, err)
	topic := newTopic(t)
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", DrainTimeout: time.Second})
	require.NoError(t, err)
	messages, err := subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	for range 3 {
		require.NoError(t, broker.Publisher().Publish(topic, sample()))
	}
	msg := receive(t, messages)
	through.Down()
	msg.Ack()
	closed := make(chan struct{})
	go func() {
		_ = broker.Close() // it may say that it could not leave
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(15 * time.Second):
		require.FailNow(t, "Close waits for ever")
	}
	_, open := <-messages
	require.False(t, open)
}
