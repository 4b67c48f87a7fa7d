package rabbitmq_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/rabbitmq"
	"github.com/hapax-go/hapax/dedup"
)

// A message without a key waits on the server for its next attempt: neither the
// window nor the process is held up, and it comes as it was.
func TestParkedOnTheServer(t *testing.T) {
	t.Parallel()
	for _, kind := range []rabbitmq.QueueType{rabbitmq.Quorum, rabbitmq.Classic} {
		t.Run(string(kind), func(t *testing.T) {
			topic := newTopic(t)
			config := func(c *rabbitmq.Config) { c.ParkAfter, c.QueueType = time.Second, kind }
			broker := opened(t, config)
			first, err := broker.Subscriber(adapters.Subscription{Group: "group", Window: 1, MaxDeliveries: -1})
			require.NoError(t, err)
			messages, err := first.Subscribe(t.Context(), topic)
			require.NoError(t, err)
			sent := newMessage("later")
			sent.Metadata.Set("name", "value")
			require.NoError(t, broker.Publisher().Publish(topic, sent, newMessage("behind")))

			began := time.Now()
			msg := receive(t, messages)
			require.Equal(t, "uuid-later", msg.UUID)
			adapters.DeliveryFrom(msg.Context()).RetryAfter(1500 * time.Millisecond)
			msg.Nack()
			behind := receive(t, messages)
			require.Equal(t, "uuid-behind", behind.UUID, "a window of one is not held up")
			behind.Ack()
			delay := topic + "%delay-2s_group"
			require.Eventually(t, func() bool {
				queue, err := raw(t).QueueDeclarePassive(delay, true, false, false, false, nil)
				return err == nil && queue.Messages == 1
			}, 10*time.Second, 20*time.Millisecond)

			// Its consumer leaves; another gets it, when it is time, and knows of the
			// attempt before.
			require.NoError(t, first.Close())
			heir := subscribe(t, opened(t, config), topic, nil)
			again := receive(t, heir)
			require.GreaterOrEqual(t, time.Since(began), 1500*time.Millisecond)
			require.Equal(t, 2, adapters.DeliveryFrom(again.Context()).Attempt)
			require.Equal(t, msg.Metadata, again.Metadata)
			require.True(t, sent.Payload != nil && string(sent.Payload) == string(again.Payload))
			for name := range again.Metadata {
				require.False(t, strings.HasPrefix(name, "x-") || strings.HasPrefix(name, "hapax_dead"), name)
			}
			// The message-id survives as well.
			id, source, err := dedup.Identity{}.Find(again)
			require.NoError(t, err)
			require.Equal(t, "later", id)
			require.Equal(t, dedup.SourceMetadata, source)
			again.Ack()
		})
	}
}

// One with a key keeps its place, as long as the server allows.
func TestKeyedIsParkedOnlyInNeed(t *testing.T) {
	t.Parallel()
	for name, timeout := range map[string]time.Duration{"in memory": time.Hour, "by the consumer timeout": 4 * time.Second} {
		t.Run(name, func(t *testing.T) {
			topic := newTopic(t)
			broker := opened(t, func(c *rabbitmq.Config) { c.ParkAfter, c.ConsumerTimeout = time.Second, timeout })
			messages := subscribe(t, broker, topic, nil)
			one, two := newMessage("one"), newMessage("two")
			for _, msg := range []*message.Message{one, two} {
				msg.Metadata.Set(dedup.MetaKey, "key")
			}
			require.NoError(t, broker.Publisher().Publish(topic, one, two))
			msg := receive(t, messages)
			require.Equal(t, one.UUID, msg.UUID)
			adapters.DeliveryFrom(msg.Context()).RetryAfter(2 * time.Second)
			msg.Nack()
			want := []string{one.UUID, two.UUID}
			if timeout < time.Hour {
				want = []string{two.UUID, one.UUID} // the second overtakes what is parked
			}
			for _, uuid := range want {
				got := receive(t, messages)
				require.Equal(t, uuid, got.UUID)
				got.Ack()
			}
		})
	}
}

// Attempts before and after a stay on the server count together.
func TestParkedUntilBuried(t *testing.T) {
	t.Parallel()
	topic := newTopic(t)
	broker := opened(t, func(c *rabbitmq.Config) { c.ParkAfter = time.Second })
	letters := subscribe(t, broker, dedup.DeadLetterTopic(topic), nil)
	messages := subscribe(t, broker, topic, func(s *adapters.Subscription) { s.MaxDeliveries = 2 })
	require.NoError(t, broker.Publisher().Publish(topic, newMessage("poison")))
	for attempt := range 2 {
		msg := receive(t, messages)
		require.Equal(t, attempt+1, adapters.DeliveryFrom(msg.Context()).Attempt)
		adapters.DeliveryFrom(msg.Context()).RetryAfter(time.Second)
		msg.Nack()
	}
	letter := receive(t, letters)
	require.Equal(t, "uuid-poison", letter.UUID)
	require.Equal(t, "2", letter.Metadata.Get(dedup.MetaDeadAttempts))
	letter.Ack()
}

// What is parked is not sent again to the further queues that its producer chose.
func TestParkedWithoutCopies(t *testing.T) {
	t.Parallel()
	broker, topic := opened(t, func(c *rabbitmq.Config) { c.ParkAfter = time.Second }), newTopic(t)
	messages := subscribe(t, broker, topic, nil)
	channel := raw(t)
	bystander, err := channel.QueueDeclare("", false, true, true, false, nil)
	require.NoError(t, err)
	require.NoError(t, channel.Publish(topic, "", true, false, amqp.Publishing{MessageId: "copied", Headers: amqp.Table{"CC": []any{bystander.Name}}}))
	msg := receive(t, messages)
	adapters.DeliveryFrom(msg.Context()).RetryAfter(time.Second)
	msg.Nack()
	receive(t, messages).Ack()
	_, found, err := channel.Get(bystander.Name, true)
	require.NoError(t, err)
	require.False(t, found, "a copy of what was parked")
}

// One that waited on the server, and is given back too often after that, is a letter like
// any other.
func TestParkedThenBeyondTheLimit(t *testing.T) {
	t.Parallel()
	for name, number := range map[string]int{"one queue": 0, "partitions": 2} {
		t.Run(name, func(t *testing.T) {
			topic := newTopic(t)
			broker := opened(t, func(c *rabbitmq.Config) {
				c.ParkAfter, c.DeliveryLimit, c.Partitions = time.Second, 2, number
			})
			letters := subscribe(t, broker, dedup.DeadLetterTopic(topic), nil)
			subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", MaxDeliveries: 10})
			require.NoError(t, err)
			messages, err := subscriber.Subscribe(t.Context(), topic)
			require.NoError(t, err)
			require.NoError(t, broker.Publisher().Publish(topic, newMessage("poison")))
			msg := receive(t, messages)
			queue := partitionOf(msg)
			adapters.DeliveryFrom(msg.Context()).RetryAfter(time.Second)
			msg.Nack()
			receive(t, messages) // and it dies with it
			require.NoError(t, subscriber.Close())
			channel := raw(t)
			deliveries, err := channel.Consume(queue, "", false, false, false, false, nil)
			require.NoError(t, err)
			for range 2 {
				delivery := <-deliveries
				require.NoError(t, delivery.Nack(false, true))
			}
			letter := receive(t, letters)
			require.Equal(t, "poison", letter.Metadata.Get(dedup.MetaEventID))
			require.Contains(t, letter.Metadata.Get(dedup.MetaDeadReason), "delivery_limit")
			require.Equal(t, topic, letter.Metadata.Get(dedup.MetaDeadTopic))
			require.Equal(t, 1, adapters.DeliveryFrom(letter.Context()).Attempt, "of the letter")
			letter.Ack()
		})
	}
}
