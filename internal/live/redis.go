package live

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/servers"
)

type redisPeer struct{ address string }

func (p *Place) redis(t testing.TB) peer {
	peer := redisPeer{servers.Require(t, servers.Redis).Hosts[0]}
	p.set("HAPAX_REDIS_ADDRESSES", peer.address)
	// The server outlives the test, and so do its marks: under the same name the next
	// run's events, which have the same IDs, would all be duplicates.
	p.set("HAPAX_SERVICE", strings.TrimSuffix(p.prefix, "-"))
	t.Cleanup(func() {
		client := redis.NewClient(&redis.Options{Addr: peer.address})
		defer client.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		keys := client.Scan(ctx, 0, "*"+p.prefix+"*", 1000).Iterator()
		for keys.Next(ctx) {
			require.NoError(t, client.Unlink(ctx, keys.Val()).Err())
		}
		require.NoError(t, keys.Err())
	})
	return peer
}

func (p redisPeer) read(t testing.TB, topic string) (payloads [][]byte, again bool) {
	client := redis.NewClient(&redis.Options{Addr: p.address})
	defer client.Close()
	entries, err := client.XRange(t.Context(), topic, "-", "+").Result()
	require.NoError(t, err)
	for _, entry := range entries {
		payload, _ := entry.Values["payload"].(string)
		payloads = append(payloads, []byte(payload))
	}
	return payloads, true
}
