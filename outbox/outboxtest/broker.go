package outboxtest

import (
	"context"
	"errors"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
)

// Broker records what is published to it.
type Broker struct {
	mu   sync.Mutex
	sent []Sent
	// refuse returns why a message is not taken.
	refuse func(topic string, msg *message.Message) error
	down   bool
	calls  int
}

// Sent is a message that the broker took.
type Sent struct {
	Topic   string
	Message *message.Message
}

var errDown = errors.New("broker is down")

// Publish implements message.Publisher. When a message is refused, those before
// it are taken all the same, as by brokers without transactions.
func (b *Broker) Publish(topic string, messages ...*message.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	if b.down {
		return errDown
	}
	for _, msg := range messages {
		if b.refuse != nil {
			if err := b.refuse(topic, msg); err != nil {
				return err
			}
		}
		b.sent = append(b.sent, Sent{topic, msg})
	}
	return nil
}

// Close implements message.Publisher.
func (b *Broker) Close() error { return nil }

// Ping says whether the broker is down.
func (b *Broker) Ping(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		return errDown
	}
	return nil
}

// SetDown turns the broker off and on.
func (b *Broker) SetDown(down bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = down
}

// Refuse sets why messages are not taken; nil takes all.
func (b *Broker) Refuse(refuse func(topic string, msg *message.Message) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuse = refuse
}

// All returns every message taken, copies too.
func (b *Broker) All() []Sent {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Sent(nil), b.sent...)
}

// Calls counts the calls of Publish.
func (b *Broker) Calls() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls
}

// Firsts returns the first copy of every event, in the order of arrival.
func (b *Broker) Firsts() (firsts []Sent) {
	seen := map[string]bool{}
	for _, sent := range b.All() {
		id := sent.Message.Metadata.Get(dedup.MetaEventID)
		if !seen[id] {
			seen[id] = true
			firsts = append(firsts, sent)
		}
	}
	return firsts
}

// IDs returns the event ID of every event, in the order of arrival.
func (b *Broker) IDs() (ids []string) {
	for _, sent := range b.Firsts() {
		ids = append(ids, sent.Message.Metadata.Get(dedup.MetaEventID))
	}
	return ids
}

// IDsOf is IDs for one key.
func (b *Broker) IDsOf(key string) (ids []string) {
	for _, sent := range b.Firsts() {
		if sent.Message.Metadata.Get(dedup.MetaKey) == key {
			ids = append(ids, sent.Message.Metadata.Get(dedup.MetaEventID))
		}
	}
	return ids
}
