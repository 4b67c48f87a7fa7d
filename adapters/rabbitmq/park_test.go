package rabbitmq_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
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

// The adapter does not know a handler's identity. A UUID stays what it was in the letter:
// as event ID it would outrank what an identity that passes over it goes by.
func TestALetterHasTheIDThatTheEventHad(t *testing.T) {
	t.Parallel()
	for id, change := range map[string]func(*message.Message){
		"":         func(*message.Message) {},
		"an-event": func(msg *message.Message) { msg.Metadata.Set(dedup.MetaEventID, "an-event") },
		"4:shop:an-event": func(msg *message.Message) {
			msg.Metadata.Set("ce_source", "shop")
			msg.Metadata.Set("ce_id", "an-event")
		},
	} {
		topic := newTopic(t)
		broker := opened(t, nil)
		letters := subscribe(t, broker, dedup.DeadLetterTopic(topic), nil)
		messages := subscribe(t, broker, topic, func(s *adapters.Subscription) { s.MaxDeliveries = 1 })
		poison := message.NewMessage("a-uuid", []byte("{}"))
		change(poison)
		require.NoError(t, broker.Publisher().Publish(topic, poison))
		receive(t, messages).Nack()
		letter := receive(t, letters)
		require.Equal(t, "a-uuid", letter.UUID)
		require.Equal(t, id, letter.Metadata.Get(dedup.MetaEventID))
		require.Equal(t, id, letter.Metadata.Get(dedup.MetaBrokerID))
		letter.Ack()
	}
}
