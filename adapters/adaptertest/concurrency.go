package adaptertest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
)

// concurrency: what no order binds is in flight together, up to the window.
func (s *suite) concurrency(t *testing.T) {
	t.Run("messages without a key", func(t *testing.T) {
		broker, topic := s.open(t), s.Topic(t)
		m := s.join(t, broker, topic, adapters.Subscription{})
		s.publish(t, broker, topic, numbered(50)...)
		for _, msg := range m.receiveMany(t, 50) {
			msg.Ack()
		}
	})
	t.Run("different keys", func(t *testing.T) {
		broker, topic := s.open(t), s.Topic(t)
		m := s.join(t, broker, topic, adapters.Subscription{})
		s.publish(t, broker, topic, keyed(50, 1, false)...)
		for _, msg := range m.receiveMany(t, 50) {
			msg.Ack()
		}
	})
	t.Run("equal keys, unordered", func(t *testing.T) {
		s.need(t, "KeyOrder", s.capabilities.KeyOrder != adapters.OrderAlways)
		broker, topic := s.open(t), s.Topic(t)
		m := s.join(t, broker, topic, adapters.Subscription{Ordering: adapters.Unordered})
		s.publish(t, broker, topic, keyed(1, 10, false)...)
		for _, msg := range m.receiveMany(t, 10) {
			msg.Ack()
		}
	})
	t.Run("not beyond the window", func(t *testing.T) {
		broker, topic := s.open(t), s.Topic(t)
		m := s.join(t, broker, topic, adapters.Subscription{Window: 5})
		s.publish(t, broker, topic, numbered(20)...)
		held := m.receiveMany(t, 5)
		m.receiveNothing(t, "the window of 5 was full")
		for range 15 {
			require.True(t, held[0].Ack())
			held = append(held[1:], m.receive(t))
		}
		for _, msg := range held {
			msg.Ack()
		}
		m.receiveNothing(t, "all were acked")
	})
}
