package adaptertest

import (
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// member is a subscription under test.
type member struct {
	suite      *suite
	subscriber message.Subscriber
	messages   <-chan *message.Message
	handling   sync.WaitGroup
}

// join subscribes to a topic; the subscription is closed when the test is over.
func (s *suite) join(t *testing.T, broker adapters.Broker, topic string, subscription adapters.Subscription) *member {
	t.Helper()
	if subscription.Group == "" {
		subscription.Group = "group"
	}
	if subscription.RedeliveryDelay == 0 {
		subscription.RedeliveryDelay = 10 * time.Millisecond
	}
	if subscription.MaxDeliveries == 0 {
		subscription.MaxDeliveries = -1
	}
	if subscription.DrainTimeout == 0 {
		subscription.DrainTimeout = 2 * time.Second
	}
	subscriber, err := broker.Subscriber(subscription)
	require.NoError(t, err, "open subscriber")
	messages, err := subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err, "subscribe to %s", topic)
	m := &member{suite: s, subscriber: subscriber, messages: messages}
	t.Cleanup(func() {
		if err := subscriber.Close(); err != nil {
			t.Logf("close subscriber: %v", err)
		}
		m.handling.Wait()
	})
	return m
}

// receive waits for a message.
func (m *member) receive(t *testing.T) *message.Message {
	t.Helper()
	select {
	case msg, open := <-m.messages:
		require.True(t, open, "the channel was closed, expected a message")
		return msg
	case <-time.After(m.suite.Patience):
		require.FailNow(t, "no message came", "waited %s", m.suite.Patience)
		return nil
	}
}

// receiveMany waits for n messages and acks none.
func (m *member) receiveMany(t *testing.T, n int) []*message.Message {
	t.Helper()
	messages := make([]*message.Message, n)
	for i := range n {
		select {
		case msg, open := <-m.messages:
			require.Truef(t, open, "the channel was closed after %d of %d messages", i, n)
			messages[i] = msg
		case <-time.After(m.suite.Patience):
			require.FailNowf(t, "too few messages at a time", "%d of %d came within %s while none was acked", i, n, m.suite.Patience)
		}
	}
	return messages
}

// receiveNothing looks for a moment whether a message comes that must not.
func (m *member) receiveNothing(t *testing.T, why string) {
	t.Helper()
	select {
	case msg, open := <-m.messages:
		require.False(t, open, "message %v came: %s", msg, why)
	case <-time.After(200 * time.Millisecond):
	}
}

// handle calls a handler in a goroutine for each message, as the Router does, until
// the channel is closed.
func (m *member) handle(handler func(*message.Message)) {
	m.handling.Go(func() {
		for msg := range m.messages {
			m.handling.Go(func() { handler(msg) })
		}
	})
}

// eventually waits until a condition holds.
func (s *suite) eventually(t *testing.T, condition func() bool, what string, args ...any) {
	t.Helper()
	require.Eventuallyf(t, condition, s.Patience, 5*time.Millisecond, what, args...)
}

func (s *suite) publish(t *testing.T, broker adapters.Broker, topic string, messages ...*message.Message) {
	t.Helper()
	require.NoError(t, broker.Publisher().Publish(topic, messages...), "publish to %s", topic)
}

// newMessage makes a message with an event ID; pairs are further metadata.
func newMessage(eventID, payload string, pairs ...string) *message.Message {
	msg := message.NewMessage(watermill.NewUUID(), message.Payload(payload))
	msg.Metadata.Set(dedup.MetaEventID, eventID)
	for i := 0; i < len(pairs); i += 2 {
		msg.Metadata.Set(pairs[i], pairs[i+1])
	}
	return msg
}

func eventID(msg *message.Message) string { return msg.Metadata.Get(dedup.MetaEventID) }

// requireSame checks that a message arrived as it was published. The adapter may
// add metadata, and must not change any.
func requireSame(t *testing.T, published, received *message.Message) {
	t.Helper()
	require.Equal(t, published.UUID, received.UUID, "UUID")
	require.Equal(t, append([]byte{}, published.Payload...), append([]byte{}, received.Payload...), "payload")
	kept := maps.Clone(received.Metadata)
	maps.DeleteFunc(kept, func(name, _ string) bool { _, sent := published.Metadata[name]; return !sent })
	require.Equal(t, published.Metadata, kept, "metadata")
}

// tally counts messages by event ID, as a multiset.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
	total  int
}

func (c *tally) add(msg *message.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[string]int{}
	}
	c.counts[eventID(msg)]++
	c.total++
}

func (c *tally) reached(n int) func() bool {
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.total >= n
	}
}

func (c *tally) snapshot() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.counts)
}

// once is the tally in which each of the messages came once.
func once(messages []*message.Message) map[string]int {
	counts := map[string]int{}
	for _, msg := range messages {
		counts[eventID(msg)]++
	}
	return counts
}
