package rabbitmq_test

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill"
	wmamqp "github.com/ThreeDotsLabs/watermill-amqp/v2/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/servers"
)

// official is the official adapter's durable Pub/Sub, as its users have it.
func official(t *testing.T, group string) wmamqp.Config {
	config := wmamqp.NewDurablePubSubConfig(servers.Require(t, servers.RabbitMQ).URL, wmamqp.GenerateQueueNameTopicNameWithSuffix(group))
	config.Publish.ConfirmDelivery = true
	return config
}

func TestOfficialPublisher(t *testing.T) {
	broker, topic := opened(t, nil), newTopic(t)
	messages := subscribe(t, broker, topic, nil)
	publisher, err := wmamqp.NewPublisher(official(t, ""), watermill.NopLogger{})
	require.NoError(t, err)
	defer publisher.Close()
	sent := message.NewMessage("uuid", []byte("payload"))
	sent.Metadata = message.Metadata{"name": "value", dedup.MetaEventID: "event", dedup.MetaKey: "key"}
	require.NoError(t, publisher.Publish(topic, sent))
	got := receive(t, messages)
	require.True(t, sent.Equals(got), "%+v", got)
	got.Ack()
}

func TestOfficialSubscriber(t *testing.T) {
	broker, topic := opened(t, nil), newTopic(t)
	subscriber, err := wmamqp.NewSubscriber(official(t, "official"), watermill.NopLogger{})
	require.NoError(t, err)
	defer subscriber.Close()
	messages, err := subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	sent := newMessage("event")
	sent.Metadata.Set(dedup.MetaKey, "key")
	require.NoError(t, broker.Publisher().Publish(topic, sent))
	got := receive(t, messages)
	require.Equal(t, sent.UUID, got.UUID)
	require.Equal(t, sent.Payload, got.Payload)
	for name, value := range sent.Metadata {
		require.Equal(t, value, got.Metadata.Get(name))
	}
	got.Ack()
}

// The official subscriber goes on with the queue of a Hapax group, and the other
// way round, when its arguments say the same.
func TestSharesAQueueWithOfficial(t *testing.T) {
	broker, topic := opened(t, nil), newTopic(t)
	config := official(t, "group")
	config.Queue.Arguments = amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum}
	subscriber, err := wmamqp.NewSubscriber(config, watermill.NopLogger{})
	require.NoError(t, err)
	require.NoError(t, subscriber.SubscribeInitialize(topic))
	require.NoError(t, broker.Publisher().Publish(topic, newMessage("event")))
	require.NoError(t, subscriber.Close())
	receive(t, subscribe(t, broker, topic, nil)).Ack()
}

// message-id is set from the event ID, and found where there is no other.
func TestMessageIDProperty(t *testing.T) {
	broker, topic := opened(t, nil), newTopic(t)
	messages := subscribe(t, broker, topic, nil)
	channel := raw(t)
	_, err := channel.QueueDeclare(topic, false, true, false, false, nil)
	require.NoError(t, err)
	require.NoError(t, channel.QueueBind(topic, "", topic, false, nil))

	require.NoError(t, broker.Publisher().Publish(topic, newMessage("event"), message.NewMessage("only-uuid", nil)))
	for _, want := range []string{"event", ""} {
		got, _, err := channel.Get(topic, true)
		require.NoError(t, err)
		require.Equal(t, want, got.MessageId)
		require.Equal(t, amqp.Persistent, got.DeliveryMode)
	}
	for range 2 {
		receive(t, messages).Ack()
	}

	// Of another program: no UUID, or an empty one; headers of any type.
	for _, headers := range []amqp.Table{nil, {wmamqp.DefaultMessageUUIDHeaderKey: ""}} {
		require.NoError(t, channel.Publish(topic, "", true, false, amqp.Publishing{MessageId: "foreign", Headers: headers, Body: []byte("x")}))
		got := receive(t, messages)
		id, source, err := dedup.Identity{}.Find(got)
		require.NoError(t, err)
		require.Equal(t, "foreign", id)
		require.Equal(t, dedup.SourceBroker, source)
		got.Ack()
	}
	require.NoError(t, channel.Publish(topic, "", true, false, amqp.Publishing{Headers: amqp.Table{wmamqp.DefaultMessageUUIDHeaderKey: "", "number": int32(7)}}))
	got := receive(t, messages)
	require.Equal(t, "7", got.Metadata.Get("number"))
	_, _, err = dedup.Identity{}.Find(got)
	require.ErrorIs(t, err, dedup.ErrNoID, "an empty UUID is no ID")
	require.Equal(t, 1, adapters.DeliveryFrom(got.Context()).Attempt)
	got.Ack()
}

// What other programs put into headers is read as text where it is any, and what they
// leave empty (null) is not there: it is nobody's event ID, and no key.
func TestHeadersOfOtherTypes(t *testing.T) {
	t.Parallel()
	broker, topic := opened(t, nil), newTopic(t)
	messages := subscribe(t, broker, topic, nil)
	require.NoError(t, raw(t).Publish(topic, "", true, false, amqp.Publishing{MessageId: "foreign", Headers: amqp.Table{
		dedup.MetaEventID: nil, dedup.MetaKey: nil, "bytes": []byte("text"), "binary": []byte{0xff, 1}, "truth": true, "number": int16(7),
	}}))
	got := receive(t, messages)
	id, source, err := dedup.Identity{}.Find(got)
	require.NoError(t, err)
	require.Equal(t, "foreign", id)
	require.Equal(t, dedup.SourceBroker, source)
	require.Equal(t, message.Metadata{
		dedup.MetaBrokerID: "foreign", "bytes": "text", "binary": "[255 1]", "truth": "true", "number": "7",
	}, got.Metadata)
	got.Ack()
}
