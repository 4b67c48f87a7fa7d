package rabbitmq_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/rabbitmq"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault/proxy"
	"github.com/hapax-go/hapax/internal/servers"
)

// A message whose connection was lost while it waited for its redelivery is waited for no
// longer: it comes again, and its key goes on.
func TestLostMessageThatWaitedHoldsUpNoKey(t *testing.T) {
	t.Parallel()
	server := servers.Require(t, servers.RabbitMQ)
	between, err := proxy.Listen(server.Hosts[0], 1)
	require.NoError(t, err)
	t.Cleanup(between.Close)
	topic := newTopic(t)
	broker := opened(t, func(c *rabbitmq.Config) { c.URL = strings.Replace(server.URL, server.Hosts[0], between.Addr(), 1) })
	messages := subscribe(t, broker, topic, nil)
	first := newMessage("first")
	first.Metadata.Set(dedup.MetaKey, "k")
	require.NoError(t, broker.Publisher().Publish(topic, first))
	msg := receive(t, messages)
	adapters.DeliveryFrom(msg.Context()).RetryAfter(10 * time.Minute) // in the consumer: longer ones wait on the server
	msg.Nack()
	between.Down()
	require.NoError(t, between.Up())
	msg = receive(t, messages)
	require.Equal(t, "first", msg.Metadata.Get(dedup.MetaEventID))
	msg.Ack()
}
