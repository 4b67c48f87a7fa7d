package adaptertest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// retry: a nacked message comes again, the same and not too early.
func (s *suite) retry(t *testing.T) {
	t.Run("same message, next attempt", func(t *testing.T) {
		broker, topic := s.open(t), s.Topic(t)
		m := s.join(t, broker, topic, adapters.Subscription{})
		sent := newMessage("stubborn", "payload", dedup.MetaKey, "key", "name", "value")
		s.publish(t, broker, topic, sent)
		for attempt := range 4 {
			msg := m.receive(t)
			requireSame(t, sent, msg)
			require.Equal(t, attempt+1, adapters.DeliveryFrom(msg.Context()).Attempt)
			msg.Metadata.Set("name", "changed by a handler")
			if attempt < 3 {
				require.True(t, msg.Nack())
			} else {
				require.True(t, msg.Ack())
			}
		}
		m.receiveNothing(t, "it was acked")
	})
	t.Run("after the delay asked for", func(t *testing.T) {
		broker, topic := s.open(t), s.Topic(t)
		m := s.join(t, broker, topic, adapters.Subscription{})
		s.publish(t, broker, topic, newMessage("patient", "x"))
		const delay = 700 * time.Millisecond
		msg := m.receive(t)
		adapters.DeliveryFrom(msg.Context()).RetryAfter(delay)
		nacked := time.Now()
		msg.Nack()
		msg = m.receive(t)
		require.GreaterOrEqual(t, time.Since(nacked), delay)
		msg.Ack()
	})
	t.Run("after the subscription's delay", func(t *testing.T) {
		broker, topic := s.open(t), s.Topic(t)
		m := s.join(t, broker, topic, adapters.Subscription{RedeliveryDelay: 300 * time.Millisecond})
		s.publish(t, broker, topic, newMessage("patient", "x"))
		nacked := time.Now()
		m.receive(t).Nack()
		msg := m.receive(t)
		require.GreaterOrEqual(t, time.Since(nacked), 300*time.Millisecond)
		msg.Ack()
	})
}
