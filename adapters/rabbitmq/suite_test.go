package rabbitmq_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/adaptertest"
	"github.com/hapax-go/hapax/adapters/rabbitmq"
	"github.com/hapax-go/hapax/adapters/rabbitmq/plain"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/servers"
)

var (
	quiet  = slog.New(slog.DiscardHandler)
	prefix = fmt.Sprintf("test.%x.", dedup.NextToken())
	topics atomic.Int64
)

// newTopic returns a name that no run has used: the server outlives them.
func newTopic(testing.TB) string { return fmt.Sprint(prefix, topics.Add(1)) }

// sweep deletes what the tests have left on the server, as far as it tells.
func sweep() {
	address, found := servers.Find(servers.RabbitMQ)
	if !found || topics.Load() == 0 {
		return
	}
	held, err := plain.Management(address.Management).Held(context.Background(), "/")
	if err != nil {
		return
	}
	err = plain.Server{URL: address.URL}.Do(func(channel *amqp.Channel) error {
		for queue := range held {
			if strings.HasPrefix(queue, prefix) {
				if _, err := channel.QueueDelete(queue, false, false, true); err != nil {
					return err
				}
			}
		}
		for number := range topics.Load() {
			for _, suffix := range []string{"", ".dead", ".out", ".out.dead", "%partitions_group", "%others_group"} {
				if err := channel.ExchangeDelete(fmt.Sprint(prefix, number+1, suffix), false, true); err != nil {
					return err
				}
			}
		}
		// An answer: the server has read all of that.
		_, err := channel.QueueDeclare("", false, true, true, false, nil)
		return err
	})
	if err != nil {
		fmt.Println("delete the tests' queues:", err)
	}
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

func TestSuite(t *testing.T) {
	t.Parallel()
	adaptertest.Run(t, harness(nil))
}

func TestSuiteOnClassicQueues(t *testing.T) {
	t.Parallel()
	adaptertest.Run(t, harness(func(c *rabbitmq.Config) { c.QueueType = rabbitmq.Classic }))
}
