package adaptertest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
)

// close: closing waits for handlers, up to a deadline, and loses nothing.
func (s *suite) close(t *testing.T) {
	t.Run("waits for handlers", func(t *testing.T) {
		topic := s.Topic(t)
		leaving := s.join(t, s.open(t), topic, adapters.Subscription{Window: 10, DrainTimeout: time.Minute})
		sent := numbered(20)
		s.publish(t, s.open(t), topic, sent...)
		held := leaving.receiveMany(t, 5)
		closed := make(chan error, 1)
		go func() { closed <- leaving.subscriber.Close() }()
		rest := s.join(t, s.open(t), topic, adapters.Subscription{})
		var seen tally
		// Until Close has taken back what was not read, more may come.
		for quiet := false; !quiet; {
			select {
			case msg, open := <-leaving.messages:
				require.True(t, open, "the channel was closed while messages were being handled")
				held = append(held, msg)
			case err := <-closed:
				require.Fail(t, "closed while messages were being handled", "%d messages, error %v", len(held), err)
			case <-time.After(200 * time.Millisecond):
				quiet = true
			}
		}
		for _, msg := range held {
			require.NoError(t, msg.Context().Err(), "cancelled while draining")
			require.Empty(t, closed, "closed while messages were being handled")
			seen.add(msg)
			require.True(t, msg.Ack())
		}
		select {
		case err := <-closed:
			require.NoError(t, err)
		case <-time.After(s.Patience):
			require.Fail(t, "not closed", "everything was acked %s ago", s.Patience)
		}
		_, open := <-leaving.messages
		require.False(t, open)
		for !seen.reached(len(sent))() {
			msg := rest.receive(t)
			seen.add(msg)
			msg.Ack()
		}
		rest.receiveNothing(t, "all were acked, by one member or the other")
		require.Equal(t, once(sent), seen.snapshot())
	})
	t.Run("cuts off at the deadline", func(t *testing.T) {
		topic := s.Topic(t)
		leaving := s.join(t, s.open(t), topic, adapters.Subscription{DrainTimeout: 50 * time.Millisecond})
		sent := newMessage("unfinished", "x")
		s.publish(t, s.open(t), topic, sent)
		msg := leaving.receive(t)
		require.NoError(t, msg.Context().Err())
		_ = leaving.subscriber.Close() // may report the message that it cut off
		select {
		case <-msg.Context().Done():
		case <-time.After(s.Patience):
			require.Fail(t, "the message's context is not cancelled")
		}
		rest := s.join(t, s.open(t), topic, adapters.Subscription{})
		again := rest.receive(t)
		requireSame(t, sent, again)
		msg.Ack() // too late: it is another member's now
		again.Nack()
		again = rest.receive(t)
		requireSame(t, sent, again)
		again.Ack()
	})
	t.Run("ends with the context of Subscribe", func(t *testing.T) {
		broker, topic := s.open(t), s.Topic(t)
		subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group"})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		messages, err := subscriber.Subscribe(ctx, topic)
		require.NoError(t, err)
		cancel()
		select {
		case _, open := <-messages:
			require.False(t, open)
		case <-time.After(s.Patience):
			require.Fail(t, "the channel is not closed")
		}
		require.NoError(t, subscriber.Close())
	})
	t.Run("closed is closed", func(t *testing.T) {
		broker, topic := s.open(t), s.Topic(t)
		m := s.join(t, broker, topic, adapters.Subscription{})
		require.NoError(t, m.subscriber.Close())
		require.NoError(t, m.subscriber.Close(), "closed again")
		_, err := m.subscriber.Subscribe(t.Context(), topic)
		require.Error(t, err, "subscribe with a closed subscriber")

		publisher := broker.Publisher()
		require.NoError(t, publisher.Close())
		require.NoError(t, publisher.Close(), "closed again")
		require.Error(t, publisher.Publish(topic, newMessage("late", "x")), "publish with a closed publisher")

		publisher = s.open(t).Publisher()
		other := s.open(t)
		last := other.Publisher()
		require.NoError(t, other.Close())
		require.Error(t, last.Publish(topic, newMessage("late", "x")), "publish to a closed broker")
		_, err = other.Subscriber(adapters.Subscription{Group: "group"})
		require.Error(t, err, "subscriber of a closed broker")
		require.NoError(t, publisher.Publish(topic, newMessage("other", "x")), "another connection is not closed")
	})
}
