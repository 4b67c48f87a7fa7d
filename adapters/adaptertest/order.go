package adaptertest

import (
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// order: equal keys are handled one at a time, in the order published.
func (s *suite) order(t *testing.T) {
	t.Run("one after the other", func(t *testing.T) {
		s.needOrder(t)
		broker, topic := s.open(t), s.Topic(t)
		m := s.join(t, broker, topic, adapters.Subscription{})
		const keys, each = 10, 3
		s.publish(t, broker, topic, keyed(keys, each, false)...)
		for round := range each {
			held := m.receiveMany(t, keys)
			seen := map[string]bool{}
			for _, msg := range held {
				require.Equal(t, strconv.Itoa(round), string(msg.Payload), "key %s", key(msg))
				seen[key(msg)] = true
			}
			require.Len(t, seen, keys, "a key came twice at a time")
			m.receiveNothing(t, "its predecessor was not acked")
			for _, msg := range held {
				msg.Ack()
			}
		}
	})
	t.Run("one member", func(t *testing.T) {
		s.needOrder(t)
		s.keepOrder(t, 1)
	})
	t.Run("several members, one leaves", func(t *testing.T) {
		s.needOrder(t)
		s.need(t, "OrderAcrossConsumers", s.capabilities.OrderAcrossConsumers)
		s.keepOrder(t, 3)
	})
}

// keepOrder lets members handle many keys, with nacks in between, while all but
// one of them leave.
func (s *suite) keepOrder(t *testing.T, members int) {
	topic := s.Topic(t)
	const keys, each = 20, 30
	record := &record{running: map[string]bool{}, nacked: map[string]bool{}, acked: map[string][]string{}}
	joined := make([]*member, members)
	for i := range joined {
		joined[i] = s.join(t, s.open(t), topic, adapters.Subscription{Window: 50})
		joined[i].handle(record.handle)
	}
	s.publish(t, s.open(t), topic, keyed(keys, each, true)...)
	for i, m := range joined[1:] {
		s.eventually(t, record.reached((i+1)*keys*each/(members+1)), "the messages do not go on coming")
		require.NoError(t, m.subscriber.Close())
	}
	s.eventually(t, record.reached(keys*each), "not all came")
	record.mu.Lock()
	defer record.mu.Unlock()
	require.Empty(t, record.overlaps, "keys that were handled twice at a time")
	for key, acked := range record.acked {
		want := make([]string, each)
		for i := range want {
			want[i] = strconv.Itoa(i)
		}
		require.Equal(t, want, acked, "key %s", key)
	}
}

// record follows what handlers do.
type record struct {
	mu       sync.Mutex
	running  map[string]bool
	nacked   map[string]bool
	acked    map[string][]string // payloads, by key
	total    int
	overlaps []string
}

// handle nacks every seventh message once.
func (r *record) handle(msg *message.Message) {
	key := key(msg)
	r.mu.Lock()
	if r.running[key] {
		r.overlaps = append(r.overlaps, key)
	}
	r.running[key] = true
	r.mu.Unlock()
	for range 10 { // let an overlap happen, if it can
		runtime.Gosched()
	}
	r.mu.Lock()
	r.running[key] = false
	n, _ := strconv.Atoi(string(msg.Payload))
	if n%7 == 3 && !r.nacked[msg.UUID] {
		r.nacked[msg.UUID] = true
		r.mu.Unlock()
		msg.Nack()
		return
	}
	r.acked[key] = append(r.acked[key], string(msg.Payload))
	r.total++
	r.mu.Unlock()
	msg.Ack()
}

func (r *record) reached(n int) func() bool {
	return func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.total >= n
	}
}

func key(msg *message.Message) string { return msg.Metadata.Get(dedup.MetaKey) }

// keyed makes messages of several keys, numbered by payload: all of a key behind
// each other, or the keys interleaved.
func keyed(keys, each int, interleaved bool) []*message.Message {
	var messages []*message.Message
	for i := range keys * each {
		k, n := i/each, i%each
		if interleaved {
			k, n = i%keys, i/keys
		}
		messages = append(messages, newMessage(fmt.Sprintf("event-%d-%d", k, n), strconv.Itoa(n), dedup.MetaKey, fmt.Sprint("key-", k)))
	}
	return messages
}
