package redis_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/dedup"
)

// sentinels starts a master, a replica and a sentinel that alone decides.
func sentinels(t *testing.T) (master, replica *server, sentinel string) {
	t.Helper()
	master = startServer(t, "--appendonly", "yes")
	host, port, err := net.SplitHostPort(master.address)
	require.NoError(t, err)
	replica = startServer(t, "--appendonly", "yes", "--replicaof", host, port)
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil,
		"sentinel monitor shop %s %s 1\nsentinel down-after-milliseconds shop 500\nsentinel failover-timeout shop 3000\n", host, port), 0o600))
	s := newServer(t, nil, "--sentinel")
	s.args = slices.Insert(s.args, 1, file) // where it keeps its state
	s.start(t)
	t.Cleanup(func() { s.stop(t, os.Kill) })
	watch := goredis.NewSentinelClient(&goredis.Options{Addr: s.address})
	defer watch.Close()
	require.Eventually(t, func() bool {
		replicas, err := watch.Replicas(t.Context(), "shop").Result()
		return err == nil && len(replicas) == 1 && replicas[0]["master-link-status"] == "ok"
	}, 30*time.Second, 50*time.Millisecond, "the sentinel never saw the replica")
	return master, replica, s.address
}

// The contract of a fail-over: what the new master knows is consistent. A commit is
// there as a whole or not at all, so every message that survived has its output once,
// however many of the last messages and commits were forgotten.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	master, replica, sentinel := sentinels(t)
	broker, err := redis.Open(t.Context(), redis.Config{
		Mode: redis.Sentinel, Addresses: []string{sentinel}, MasterName: "shop", Logger: quiet, Lease: time.Second, Timeout: time.Second,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	topic := newTopic(t)
	var handled atomic.Int64
	serve(t, broker, topic, dedup.Optimistic, func(msg *message.Message) ([]*message.Message, error) {
		handled.Add(1)
		out := message.NewMessage("", msg.Payload)
		return []*message.Message{out}, nil
	})

	confirmed := map[string]bool{}
	total := soaked(3000, 12_000)
	var longest time.Duration
	killed := make(chan struct{})
	for i := range total {
		if i == total/2 {
			lag(t, master)
			time.AfterFunc(300*time.Millisecond, func() {
				master.stop(t, os.Kill)
				close(killed)
			})
		}
		id := fmt.Sprint(i)
		msg, began := message.NewMessage(id, []byte(id)), time.Now()
		require.Eventually(t, func() bool { return broker.Publisher().Publish(topic, msg) == nil }, 60*time.Second, 20*time.Millisecond)
		confirmed[id], longest = true, max(longest, time.Since(began))
	}
	<-killed
	client := goredis.NewClient(&goredis.Options{Addr: replica.address})
	defer client.Close()
	require.Eventually(t, func() bool {
		groups, err := broker.Stats(context.Background(), topic)
		return err == nil && len(groups) == 1 && groups[0].Backlog == 0 && groups[0].Pending == 0
	}, 60*time.Second, 50*time.Millisecond, "it never drained")

	survived, made := payloads(t, client, topic), payloads(t, client, topic+".out")
	forgotten := 0
	for id := range confirmed {
		if survived[id] == 0 {
			forgotten++
		}
	}
	for id := range survived {
		require.Equal(t, 1, made[id], "effects of message %s, which survived", id)
	}
	for id, count := range made {
		require.Equal(t, 1, count, "effects of message %s", id)
		require.NotZero(t, survived[id], "an effect without its message")
	}
	require.NotZero(t, forgotten, "nothing was forgotten, so nothing was shown")
	t.Logf("fail-over: writes stood still for %s; of %d confirmed messages %d were forgotten; %d handler runs for %d messages that survived, each with one effect",
		longest.Round(time.Millisecond), total, forgotten, handled.Load(), len(survived))
}

// lag makes the replica fall behind: it may not connect again.
func lag(t *testing.T, master *server) {
	t.Helper()
	client := goredis.NewClient(&goredis.Options{Addr: master.address})
	defer client.Close()
	require.NoError(t, client.ConfigSet(t.Context(), "requirepass", "for nobody").Err())
	require.NoError(t, client.Do(t.Context(), "CLIENT", "KILL", "TYPE", "replica").Err())
}

// payloads counts the payloads of a stream.
func payloads(t *testing.T, client *goredis.Client, topic string) map[string]int {
	entries, err := client.XRange(t.Context(), topic, "-", "+").Result()
	require.NoError(t, err)
	found := map[string]int{}
	for _, entry := range entries {
		found[entry.Values["payload"].(string)]++
	}
	return found
}
