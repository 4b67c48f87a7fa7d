package rabbitmq

import (
	"testing"
	"time"

	wmamqp "github.com/ThreeDotsLabs/watermill-amqp/v2/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
)

// What is written is what the official marshaler writes, and the message-id property.
func TestEncodesAsTheOfficialMarshaler(t *testing.T) {
	b := &Broker{config: Config{MaxPayload: 1 << 10}}
	event := message.NewMessage("uuid", []byte("payload"))
	event.Metadata = message.Metadata{
		dedup.MetaEventID: "event", dedup.MetaPublishedAt: "then", dedup.MetaKey: "", "name": "value",
		wmamqp.DefaultMessageUUIDHeaderKey: "overwritten",
	}
	for _, msg := range []*message.Message{event, message.NewMessage("", nil), {UUID: "no metadata"}} {
		official, err := wmamqp.DefaultMarshaler{}.Marshal(msg)
		require.NoError(t, err)
		var p posting
		require.NoError(t, b.encode(&p, "orders", msg, time.Unix(1, 5)))
		if msg != event {
			official.Headers[dedup.MetaPublishedAt] = "1970-01-01T00:00:01.000000005Z"
		}
		official.MessageId = msg.Metadata.Get(dedup.MetaEventID)
		require.Equal(t, official, p.Publishing)
	}
	event.Metadata.Set(dedup.MetaBrokerID, "the property's")
	var p posting
	require.NoError(t, b.encode(&p, "orders", event, time.Now()))
	require.NotContains(t, p.Headers, dedup.MetaBrokerID)
}

// A queue that names no limit has none before RabbitMQ 4, and one of 20 from then on.
func TestAQueueWithoutALimit(t *testing.T) {
	for name, test := range map[string]struct {
		is     amqp.Table
		server version
		drops  bool
	}{
		"RabbitMQ 3.13":                   {amqp.Table{amqp.QueueTypeArg: "quorum"}, version{3, 13}, false},
		"RabbitMQ 4":                      {amqp.Table{amqp.QueueTypeArg: "quorum"}, version{4, 0}, true},
		"with a place to go":              {amqp.Table{amqp.QueueTypeArg: "quorum", "x-dead-letter-exchange": "dead"}, version{4, 0}, false},
		"without end":                     {amqp.Table{amqp.QueueTypeArg: "quorum", "x-delivery-limit": int64(-1)}, version{4, 0}, false},
		"a classic queue, which has none": {amqp.Table{amqp.QueueTypeArg: "classic"}, version{4, 0}, false},
	} {
		problem, _ := judgeReturns(test.is, test.server)
		require.Equal(t, test.drops, problem != "", "%s: %s", name, problem)
	}
}
