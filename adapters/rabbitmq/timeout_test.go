package rabbitmq_test

import (
	"os"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/rabbitmq"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/memory"
	"github.com/hapax-go/hapax/internal/servers"
)

// A handler outlasts the server's consumer timeout. The server closes the channel
// and delivers the message again, while the first delivery is still being handled;
// that one commits, and the copy is a duplicate.
func TestConsumerTimeoutIsAbsorbed(t *testing.T) {
	const variable = "HAPAX_TEST_CONSUMER_TIMEOUT"
	servers.OnRequest(t, variable, "the server's consumer_timeout is 30 minutes: run `rabbitmqctl eval 'application:set_env(rabbit, consumer_timeout, 3000), application:set_env(rabbit, channel_tick_interval, 1000).'` on a server of your own, and say 3s")
	limit, err := time.ParseDuration(os.Getenv(variable))
	require.NoError(t, err)
	topic := newTopic(t)
	broker := opened(t, func(c *rabbitmq.Config) { c.ConsumerTimeout = limit })
	messages := subscribe(t, broker, topic, nil)
	outputs := subscribe(t, broker, topic+".out", nil)
	ledger := memory.New(memory.Config{})
	strategy := dedup.NewLedgerStrategy(ledger, broker.Publisher(), dedup.LedgerOptions{Lease: time.Second, Logger: quiet})
	t.Cleanup(func() { _ = strategy.Close() })
	once, err := dedup.New(dedup.Config{Scope: dedup.Scope{Service: topic, Handler: "slow"}, Strategy: strategy, InFlightWait: 10 * time.Second})
	require.NoError(t, err)
	redelivered := make(chan struct{})
	var runs int // one at a time, by the lease
	handle := once.Wrap(func(msg *message.Message) ([]*message.Message, error) {
		runs++
		select {
		case <-redelivered:
		case <-time.After(5*limit + 10*time.Second):
		}
		output := message.NewMessage("output", msg.Payload)
		output.Metadata.Set(dedup.MetaTopic, topic+".out")
		return []*message.Message{output}, nil
	})
	require.NoError(t, broker.Publisher().Publish(topic, newMessage("slow")))
	var handling sync.WaitGroup
	for attempt := range 2 {
		var msg *message.Message
		select {
		case msg = <-messages:
		case <-time.After(5*limit + 10*time.Second):
			require.FailNow(t, "no message", "attempt %d", attempt+1)
		}
		if attempt == 1 {
			close(redelivered)
		}
		handling.Go(func() {
			if _, err := handle(msg); err != nil {
				msg.Nack()
				return
			}
			msg.Ack()
		})
	}
	handling.Wait()
	require.Equal(t, 1, runs)
	receive(t, outputs).Ack()
	select {
	case msg := <-outputs:
		require.Fail(t, "a second output", "%v", msg)
	case msg := <-messages:
		require.Fail(t, "a third delivery", "%v", msg)
	case <-time.After(200 * time.Millisecond):
	}
}
