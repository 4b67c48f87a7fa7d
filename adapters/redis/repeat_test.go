package redis

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/servers"
)

// losing is a connection that loses an answer with an entry in it, when armed.
type losing struct {
	net.Conn
	armed *atomic.Bool
	then  func()
}

// Read implements net.Conn.
func (c *losing) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !bytes.Contains(p[:n], []byte("_watermill_message_uuid")) || !c.armed.CompareAndSwap(true, false) {
		return n, err
	}
	c.then()
	_ = c.Conn.Close()
	return 0, io.EOF
}

// The answer to a read is lost, and the server has more by the time the client is
// connected again: a client that repeats the read would hand that out first.
func TestLostReadKeepsOrder(t *testing.T) {
	t.Parallel()
	for mode, server := range map[Mode]string{Single: servers.Redis, Cluster: servers.RedisCluster} {
		t.Run(string(mode), func(t *testing.T) {
			config := Config{Mode: mode, Addresses: servers.Require(t, server).Hosts, Logger: slog.New(slog.DiscardHandler), Lease: 5 * time.Second}
			broker, err := Open(t.Context(), config)
			require.NoError(t, err)
			other, err := Open(t.Context(), config)
			require.NoError(t, err)
			topic := fmt.Sprintf("test.repeat.%d", dedup.NextToken())
			publish := func(uuid string) {
				msg := message.NewMessage(uuid, nil)
				msg.Metadata.Set(dedup.MetaKey, "key")
				require.NoError(t, other.Publisher().Publish(topic, msg))
			}
			var armed atomic.Bool
			require.NoError(t, broker.client.Close())
			broker.client = redialed(broker.client, func(conn net.Conn) net.Conn {
				return &losing{conn, &armed, func() { publish("second") }}
			})
			subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group"})
			require.NoError(t, err)
			messages, err := subscriber.Subscribe(t.Context(), topic)
			require.NoError(t, err)
			publish("zeroth")
			next := func() string {
				select {
				case msg := <-messages:
					msg.Ack()
					return msg.UUID
				case <-time.After(20 * time.Second):
					return "nothing"
				}
			}
			require.Equal(t, "zeroth", next(), "it has joined, and reads")
			armed.Store(true)
			publish("first")
			require.Equal(t, []string{"first", "second"}, []string{next(), next()})
			require.NoError(t, broker.Close())
			require.NoError(t, other.Close())
		})
	}
}

// redialed is a client with the options of another, of which every connection is
// wrapped.
func redialed(client redis.UniversalClient, wrap func(net.Conn) net.Conn) redis.UniversalClient {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return wrap(conn), nil
	}
	if cluster, ok := client.(*redis.ClusterClient); ok {
		options := *cluster.Options()
		options.Dialer = dial
		return redis.NewClusterClient(&options)
	}
	options := *client.(*redis.Client).Options()
	options.Dialer, options.MaxRetries = dial, -1
	return redis.NewClient(&options)
}
