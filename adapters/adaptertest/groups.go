package adaptertest

import (
	"fmt"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
)

func numbered(n int, pairs ...string) []*message.Message {
	messages := make([]*message.Message, n)
	for i := range messages {
		messages[i] = newMessage(fmt.Sprintf("event-%d", i), fmt.Sprint(i), pairs...)
	}
	return messages
}

// groups: each group sees every message; the members of a group share them.
func (s *suite) groups(t *testing.T) {
	t.Run("each sees all", func(t *testing.T) {
		s.need(t, "ConsumerGroups", s.capabilities.ConsumerGroups)
		broker, topic := s.open(t), s.Topic(t)
		seen := make([]tally, 3)
		for i := range seen {
			m := s.join(t, broker, topic, adapters.Subscription{Group: fmt.Sprint("group-", i)})
			m.handle(func(msg *message.Message) { seen[i].add(msg); msg.Ack() })
		}
		sent := numbered(50)
		s.publish(t, broker, topic, sent...)
		for i := range seen {
			s.eventually(t, seen[i].reached(len(sent)), "group %d did not see all", i)
			require.Equal(t, once(sent), seen[i].snapshot())
		}
	})
	t.Run("members share", func(t *testing.T) {
		topic := s.Topic(t)
		members := make([]*member, 3)
		for i := range members {
			members[i] = s.join(t, s.open(t), topic, adapters.Subscription{Window: 10})
		}
		sent := numbered(200)
		s.publish(t, s.open(t), topic, sent...)
		// Nobody acks yet, so no window has room for all: each has to get some.
		held := make([]*message.Message, len(members))
		for i, m := range members {
			held[i] = m.receive(t)
		}
		var seen tally
		count := func(msg *message.Message) { seen.add(msg); msg.Ack() }
		for i, m := range members {
			count(held[i])
			m.handle(count)
		}
		s.eventually(t, seen.reached(len(sent)), "not all came")
		require.Equal(t, once(sent), seen.snapshot())
	})
	t.Run("a new group starts at the beginning", func(t *testing.T) {
		s.need(t, "Replay", s.capabilities.Replay)
		broker, topic := s.open(t), s.Topic(t)
		sent := numbered(50)
		for _, group := range []string{"first", "later"} {
			m := s.join(t, broker, topic, adapters.Subscription{Group: group})
			if group == "first" {
				s.publish(t, broker, topic, sent...)
			}
			var seen tally
			m.handle(func(msg *message.Message) { seen.add(msg); msg.Ack() })
			s.eventually(t, seen.reached(len(sent)), "group %s did not see all", group)
			require.Equal(t, once(sent), seen.snapshot())
		}
	})
}
