package adaptertest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
)

// topics: what is sent to a topic that nobody reads is kept or refused, and never
// vanishes.
func (s *suite) topics(t *testing.T) {
	t.Run("nobody has subscribed", func(t *testing.T) {
		broker, topic := s.open(t), s.Topic(t)
		sent := newMessage("early", "x")
		if err := broker.Publisher().Publish(topic, sent); err != nil {
			require.ErrorContains(t, err, topic, "the error does not name the topic")
			return
		}
		m := s.join(t, broker, topic, adapters.Subscription{})
		received := m.receive(t)
		requireSame(t, sent, received)
		received.Ack()
	})
	t.Run("apart", func(t *testing.T) {
		broker, one, two := s.open(t), s.Topic(t), s.Topic(t)
		first := s.join(t, broker, one, adapters.Subscription{})
		second := s.join(t, broker, two, adapters.Subscription{})
		s.publish(t, broker, one, newMessage("one", "x"))
		s.publish(t, broker, two, newMessage("two", "x"))
		for m, want := range map[*member]string{first: "one", second: "two"} {
			msg := m.receive(t)
			require.Equal(t, want, eventID(msg))
			msg.Ack()
			m.receiveNothing(t, "it was sent to another topic")
		}
	})
	t.Run("ping and check", func(t *testing.T) {
		broker := s.open(t)
		require.NoError(t, broker.Ping(t.Context()))
		for _, finding := range broker.Check(t.Context()) {
			require.NotEmpty(t, finding.Name)
			require.NotEmpty(t, finding.Problem, finding.Name)
			require.NotEmpty(t, finding.Fix, finding.Name)
			require.False(t, finding.Fatal, "%s: %s", finding.Name, finding.Problem)
		}
		_, err := broker.Strategy("no such strategy", adapters.StrategyOptions{})
		require.ErrorIs(t, err, adapters.ErrNoStrategy)
	})
}
