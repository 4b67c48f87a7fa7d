package rabbitmq_test

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/adaptertest"
	"github.com/hapax-go/hapax/adapters/rabbitmq"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/servers"
)

var (
	quiet  = slog.New(slog.DiscardHandler)
	topics atomic.Int64
)

// newTopic returns a name that no run has used: the server outlives them.
func newTopic(testing.TB) string {
	return fmt.Sprintf("test.%x.%d", dedup.NextToken(), topics.Add(1))
}

func open(t testing.TB, change func(*rabbitmq.Config)) *rabbitmq.Broker {
	t.Helper()
	config := rabbitmq.Config{URL: servers.Require(t, servers.RabbitMQ).URL, Logger: quiet}
	if change != nil {
		change(&config)
	}
	broker, err := rabbitmq.Open(t.Context(), config)
	require.NoError(t, err)
	return broker
}

func harness(change func(*rabbitmq.Config)) adaptertest.Harness {
	return adaptertest.Harness{
		Open:    func(t *testing.T) adapters.Broker { return open(t, change) },
		Topic:   func(t *testing.T) string { return newTopic(t) },
		Abandon: func(_ *testing.T, broker adapters.Broker) { broker.(*rabbitmq.Broker).Abandon() },
		Without: map[string]string{"Freeze": "RabbitMQ has no leases: it gives messages to others when the connection ends"},
	}
}

func TestSuite(t *testing.T) { adaptertest.Run(t, harness(nil)) }

func TestSuiteOnClassicQueues(t *testing.T) {
	adaptertest.Run(t, harness(func(c *rabbitmq.Config) { c.QueueType = rabbitmq.Classic }))
}
