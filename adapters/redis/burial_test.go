package redis_test

import (
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/internal/written"
)

// What the broker gives up stays until its letter is there, whatever the first tries
// meet. In a cluster the letter lies on another node.
func TestLetterIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, config := range singleAndCluster(t) {
		t.Run(name, func(t *testing.T) {
			var log written.Text
			config.Logger = slog.New(slog.NewTextHandler(&log, nil))
			broker, client := connected(t, config)
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

// Of commits that share a call, each answers for its own outputs only.
func TestFailuresOfOthers(t *testing.T) {
	t.Parallel()
	for name, config := range singleAndCluster(t) {
		t.Run(name, func(t *testing.T) {
			config.Logger = quiet
			broker, client := connected(t, config)
			topic := newTopic(t)
			require.NoError(t, client.Set(t.Context(), topic+".bad", "no stream", time.Hour).Err())
			messages := subscribe(t, broker, topic, adapters.Subscription{DrainTimeout: time.Second})
			strategy, err := broker.Strategy(dedup.StrategyXAck, adapters.StrategyOptions{Window: time.Hour})
			require.NoError(t, err)
			const events = 100
			begin, outcomes := make(chan struct{}), make([]error, events)
			var commits sync.WaitGroup
			for i := range events {
				require.NoError(t, broker.Publisher().Publish(topic, message.NewMessage(strconv.Itoa(i), nil)))
				msg := receive(t, messages)
				event := &dedup.Event{Message: msg, Entry: dedup.Entry{ID: dedup.NewID(dedup.Scope{}, topic+msg.UUID)}}
				held, err := strategy.Claim(msg.Context(), []*dedup.Event{event})
				require.NoError(t, err)
				commits.Go(func() {
					<-begin
					to := topic + []string{".good", ".bad"}[i%2]
					outcomes[i] = held.Commit(msg.Context(), []dedup.Output{{Topic: to, Message: message.NewMessage(msg.UUID, nil)}})
					msg.Ack()
				})
			}
			close(begin)
			commits.Wait()
			for i, err := range outcomes {
				if i%2 == 1 {
					require.ErrorContains(t, err, "WRONGTYPE")
				} else {
					require.NoError(t, err)
				}
			}
			require.EqualValues(t, events/2, client.XLen(t.Context(), topic+".good").Val())
		})
	}
}

func singleAndCluster(t *testing.T) map[string]redis.Config {
	return map[string]redis.Config{
		"single":  {Addresses: servers.Require(t, servers.Redis).Hosts},
		"cluster": {Mode: redis.Cluster, Addresses: servers.Require(t, servers.RedisCluster).Hosts},
	}
}

// connected is a broker, and a client beside it.
func connected(t *testing.T, config redis.Config) (*redis.Broker, goredis.UniversalClient) {
	broker, err := redis.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	client, err := redis.Connect(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return broker, client
}
