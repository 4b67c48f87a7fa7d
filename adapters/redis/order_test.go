package redis_test

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/redis"
)

// Behind a message that the server has no memory for, the later ones of the same Publish,
// which are smaller, are not in the stream: sent again, they would come in another order.
func TestNothingOvertakesWhatIsRefused(t *testing.T) {
	t.Parallel()
	server := startServer(t, "--maxmemory", "50mb")
	broker, err := redis.Open(t.Context(), redis.Config{Addresses: []string{server.address}, Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	client := goredis.NewClient(&goredis.Options{Addr: server.address})
	t.Cleanup(func() { require.NoError(t, client.Close()) })

	for range 10 {
		require.NoError(t, broker.Publisher().Publish("filling", message.NewMessage("", make([]byte, 2<<20))))
	}
	order := []*message.Message{message.NewMessage("first", make([]byte, 16<<20)), message.NewMessage("second", nil)}
	require.ErrorContains(t, broker.Publisher().Publish("orders", order...), "OOM")
	require.Zero(t, client.XLen(t.Context(), "orders").Val())

	require.NoError(t, client.Del(t.Context(), "filling").Err())
	require.NoError(t, broker.Publisher().Publish("orders", order...))
	entries, err := client.XRange(t.Context(), "orders", "-", "+").Result()
	require.NoError(t, err)
	require.Len(t, entries, 2)
	require.Equal(t, "first", entries[0].Values["_watermill_message_uuid"])
}
