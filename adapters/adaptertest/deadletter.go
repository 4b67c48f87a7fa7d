package adaptertest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// deadLetter: a message that was handed out too often goes to the dead-letter
// topic, whole, and those behind it go on.
func (s *suite) deadLetter(t *testing.T) {
	broker, topic := s.open(t), s.Topic(t)
	letters := s.join(t, broker, dedup.DeadLetterTopic(topic), adapters.Subscription{Group: "undertaker"})
	m := s.join(t, broker, topic, adapters.Subscription{MaxDeliveries: 3})
	poison := newMessage("poison", "kills", dedup.MetaKey, "key", "name", "value")
	s.publish(t, broker, topic, poison, newMessage("behind", "x", dedup.MetaKey, "key"))

	attempts := 0
	for behind := false; attempts < 3 || !behind; {
		msg := m.receive(t)
		if eventID(msg) == "poison" {
			attempts++
			msg.Nack()
			continue
		}
		require.Equal(t, "behind", eventID(msg))
		if s.ordered() {
			require.Equal(t, 3, attempts, "the key goes on when its first message was given up")
		}
		// Acked whenever it comes: where no order is kept it may be three times in a
		// row, and would be given up as well.
		behind = true
		msg.Ack()
	}
	require.Equal(t, 3, attempts, "handed out so often before it was given up")
	letter := letters.receive(t)
	require.NotEmpty(t, letter.Metadata.Get(dedup.MetaDeadReason), "%s says why it is dead", dedup.MetaDeadReason)
	requireSame(t, poison, letter)
	letter.Ack()
	letters.receiveNothing(t, "one message died, once")
}

// deadLetterElsewhere: letters go to the topic that the subscription names, and
// nowhere else.
func (s *suite) deadLetterElsewhere(t *testing.T) {
	broker, topic, graveyard := s.open(t), s.Topic(t), s.Topic(t)
	letters := s.join(t, broker, graveyard, adapters.Subscription{Group: "undertaker"})
	others := s.join(t, broker, dedup.DeadLetterTopic(topic), adapters.Subscription{Group: "undertaker"})
	m := s.join(t, broker, topic, adapters.Subscription{MaxDeliveries: 2, DeadLetter: graveyard})
	poison := newMessage("poison", "kills", dedup.MetaKey, "key", "name", "value")
	s.publish(t, broker, topic, poison)
	for range 2 {
		m.receive(t).Nack()
	}
	letter := letters.receive(t)
	require.Equal(t, topic, letter.Metadata.Get(dedup.MetaDeadTopic))
	requireSame(t, poison, letter)
	letter.Ack()
	letters.receiveNothing(t, "one message died, once")
	others.receiveNothing(t, "the subscription names another dead-letter topic")
}

// excused: what is not to blame for its nacks is handed out as often as it takes,
// with attempts that are counted on.
func (s *suite) excused(t *testing.T) {
	broker, topic := s.open(t), s.Topic(t)
	letters := s.join(t, broker, dedup.DeadLetterTopic(topic), adapters.Subscription{Group: "undertaker"})
	m := s.join(t, broker, topic, adapters.Subscription{MaxDeliveries: 3})
	s.publish(t, broker, topic, newMessage("innocent", "x"))
	for attempt := range 8 {
		msg := m.receive(t)
		delivery := adapters.DeliveryFrom(msg.Context())
		require.Equal(t, attempt+1, delivery.Attempt)
		if attempt != 2 && attempt != 5 { // two of three that count
			delivery.Excuse()
		}
		msg.Nack()
	}
	m.receive(t).Ack()
	letters.receiveNothing(t, "the message was acked")
}
