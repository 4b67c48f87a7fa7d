package sqs_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	official "github.com/ThreeDotsLabs/watermill-aws/sqs"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/adaptertest"
	"github.com/hapax-go/hapax/adapters/sqs"
	"github.com/hapax-go/hapax/dedup"
)

func TestWatermill(t *testing.T) {
	t.Parallel()
	config := local(t)
	config.Workers = 1 // the suite opens fifty subscribers at a time
	config.VisibilityTimeout = 30 * time.Second
	adaptertest.Watermill(t, harness(config), tests.Features{
		// A queue gives each message to one consumer.
		ConsumerGroups: false,
		// A standard queue promises at least once, and so does Hapax.
		ExactlyOnceDelivery: false,
		GuaranteedOrder:     false,
		Persistent:          true,
	})
}

// theirs are the ends of the official adapter at the same server.
func theirs(t *testing.T, config sqs.Config) (*official.Publisher, *official.Subscriber) {
	t.Helper()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	reach := aws.Config{
		Region: "us-east-1", Credentials: config.Credentials, BaseEndpoint: aws.String(config.Endpoint),
		HTTPClient: &http.Client{Transport: transport},
	}
	publisher, err := official.NewPublisher(official.PublisherConfig{AWSConfig: reach}, watermill.NopLogger{})
	require.NoError(t, err)
	subscriber, err := official.NewSubscriber(official.SubscriberConfig{AWSConfig: reach}, watermill.NopLogger{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, subscriber.Close()) })
	return publisher, subscriber
}

func receive(t *testing.T, messages <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case msg, open := <-messages:
		require.True(t, open)
		return msg
	case <-time.After(30 * time.Second):
		require.FailNow(t, "no message came")
		return nil
	}
}

func receiveID(t *testing.T, messages <-chan *message.Message) string {
	t.Helper()
	msg := receive(t, messages)
	msg.Ack()
	return msg.UUID
}

// The official adapter reads what Hapax sends, and Hapax what the official one does.
func TestOfficialAdapterInteroperates(t *testing.T) {
	config := local(t)
	broker := open(t, config)
	publisher, subscriber := theirs(t, config)
	sent := message.NewMessage("the-uuid", message.Payload(`{"text":"größe ∞"}`))
	sent.Metadata = message.Metadata{dedup.MetaEventID: "event", dedup.MetaKey: "key", "name": "∞ value"}

	t.Run("theirs reads ours", func(t *testing.T) {
		topic := "interop-a-" + watermill.NewShortUUID()
		require.NoError(t, broker.Publisher().Publish(topic, sent))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		messages, err := subscriber.Subscribe(ctx, topic)
		require.NoError(t, err)
		msg := receive(t, messages)
		require.Equal(t, sent.UUID, msg.UUID)
		require.Equal(t, string(sent.Payload), string(msg.Payload))
		require.Equal(t, sent.Metadata, msg.Metadata)
		require.True(t, msg.Ack())
	})
	t.Run("ours reads theirs", func(t *testing.T) {
		topic := "interop-b-" + watermill.NewShortUUID()
		require.NoError(t, publisher.Publish(topic, sent))
		ours, err := broker.Subscriber(adapters.Subscription{Group: "group"})
		require.NoError(t, err)
		messages, err := ours.Subscribe(t.Context(), topic)
		require.NoError(t, err)
		msg := receive(t, messages)
		require.Equal(t, sent.UUID, msg.UUID)
		require.Equal(t, string(sent.Payload), string(msg.Payload))
		for name, value := range sent.Metadata {
			require.Equal(t, value, msg.Metadata[name], name)
		}
		require.True(t, msg.Ack())
	})
}
