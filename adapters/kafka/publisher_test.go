package kafka_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/hapax-go/hapax/adapters/kafka"
)

// mute is a Kafka that loses every request to publish until it is told to listen.
func mute(t *testing.T) (cluster *kfake.Cluster, listen func()) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	ctx, listen := context.WithCancel(context.Background())
	cluster.ControlKey(kmsg.Produce.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		return nil, errors.New("connection lost"), ctx.Err() == nil
	})
	return cluster, listen
}

// publishing publishes one message, and returns where its error comes.
func publishing(broker *kafka.Broker, topic, uuid string) <-chan error {
	published := make(chan error, 1)
	go func() { published <- broker.Publisher().Publish(topic, message.NewMessage(uuid, nil)) }()
	return published
}

// ended waits for an error, and not for ever.
func ended(t *testing.T, published <-chan error) error {
	t.Helper()
	select {
	case err := <-published:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("Publish does not return")
		return nil
	}
}

// A Kafka that does not confirm is not waited for without end; when it is back, the
// same broker goes on.
func TestPublishGivesUp(t *testing.T) {
	t.Parallel()
	cluster, listen := mute(t)
	config := fast(cluster.ListenAddrs())
	config.DeliveryTimeout = 300 * time.Millisecond
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	topic := newTopic(t)
	for range 3 {
		err = ended(t, publishing(broker, topic, "1"))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "not confirmed the messages within 300ms")
	}
	listen()
	require.Eventually(t, func() bool { return ended(t, publishing(broker, topic, "2")) == nil }, 20*time.Second, time.Millisecond)

	cluster.Close() // nobody is there
	require.ErrorIs(t, ended(t, publishing(broker, topic, "3")), context.DeadlineExceeded)
	require.ErrorIs(t, ended(t, publishing(broker, newTopic(t), "4")), context.DeadlineExceeded)
}

// Closing the broker ends what is being published: a relay that is left behind at the
// end of a service ends then.
func TestCloseEndsPublish(t *testing.T) {
	t.Parallel()
	cluster, _ := mute(t)
	config := fast(cluster.ListenAddrs())
	config.DeliveryTimeout = time.Hour
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	published := publishing(broker, newTopic(t), "1")
	require.Eventually(t, func() bool { return kafka.Buffered(broker) == 1 }, 20*time.Second, time.Millisecond)
	require.NoError(t, broker.Close())
	require.Error(t, ended(t, published))
}
