package plain_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/rabbitmq/plain"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/servers"
)

// A message that was nacked comes again, and is read again: from a quorum queue it
// then has a header that the official marshaler refuses.
func TestPlainReadsWhatComesAgain(t *testing.T) {
	server := plain.Server{URL: servers.Require(t, servers.RabbitMQ).URL}
	topic := fmt.Sprintf("test.%x", dedup.NextToken())
	subscriber, err := server.Subscriber("group", 10)
	require.NoError(t, err)
	defer subscriber.Close()
	messages, err := subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	publisher, err := server.Publisher()
	require.NoError(t, err)
	defer publisher.Close()
	require.NoError(t, publisher.Publish(topic, message.NewMessage("uuid", []byte("payload"))))
	for attempt := range 3 {
		select {
		case msg := <-messages:
			require.Equal(t, "uuid", msg.UUID)
			if attempt < 2 {
				msg.Nack()
				continue
			}
			msg.Ack()
		case <-time.After(10 * time.Second):
			require.FailNow(t, "it does not come again", "after %d attempts", attempt)
		}
	}
}
