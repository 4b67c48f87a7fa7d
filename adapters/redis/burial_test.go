package redis_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/servers"
)

// What the broker gives up stays until its letter is there, whatever the first tries
// meet. In a cluster the letter lies on another node.
func TestLetterIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]redis.Config{
		"single":  {Addresses: servers.Require(t, servers.Redis).Hosts},
		"cluster": {Mode: redis.Cluster, Addresses: servers.Require(t, servers.RedisCluster).Hosts},
	} {
		t.Run(name, func(t *testing.T) {
			var log lockedLog
			config.Logger = slog.New(slog.NewTextHandler(&log, nil))
			broker, err := redis.Open(t.Context(), config)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, broker.Close()) })
			client, err := redis.Connect(t.Context(), config)
			require.NoError(t, err)
			t.Cleanup(func() { _ = client.Close() })
			topic := newTopic(t)
			letters := dedup.DeadLetterTopic(topic)
			require.NoError(t, client.Set(t.Context(), letters, "no stream", time.Hour).Err()) // it takes no letter
			messages := subscribe(t, broker, topic, adapters.Subscription{MaxDeliveries: 1})
			require.NoError(t, broker.Publisher().Publish(topic, sample()))
			receive(t, messages).Nack()
			require.Eventually(t, func() bool { return strings.Contains(log.String(), "trying again") }, 20*time.Second, time.Millisecond)
			require.NoError(t, client.Del(t.Context(), letters).Err())
			require.Eventually(t, func() bool { return pending(t, client, topic) == 0 }, 20*time.Second, 10*time.Millisecond)
			require.EqualValues(t, 1, client.XLen(t.Context(), letters).Val())
		})
	}
}

// lockedLog is written to by several goroutines.
type lockedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
