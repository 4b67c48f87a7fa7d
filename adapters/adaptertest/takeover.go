package adaptertest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
)

// takeover: what a dead member held goes to another, in order.
func (s *suite) takeover(t *testing.T) {
	s.needHook(t, "Abandon", s.Abandon != nil)
	topic := s.Topic(t)
	dying := s.open(t)
	victim := s.join(t, dying, topic, adapters.Subscription{DrainTimeout: -1})
	sent := append(numbered(20), keyed(1, 5, false)...)
	s.publish(t, s.open(t), topic, sent...)
	victim.receiveMany(t, 21) // all without a key, and the first of the key
	s.Abandon(t, dying)

	heir := s.join(t, s.open(t), topic, adapters.Subscription{})
	var seen tally
	var order []string
	for !seen.reached(len(sent))() {
		msg := heir.receive(t)
		seen.add(msg)
		if key(msg) != "" {
			order = append(order, string(msg.Payload))
		}
		msg.Ack()
	}
	require.Equal(t, once(sent), seen.snapshot())
	if s.ordered() {
		require.Equal(t, []string{"0", "1", "2", "3", "4"}, order, "order of the key")
	}
	heir.receiveNothing(t, "all were acked")
}
