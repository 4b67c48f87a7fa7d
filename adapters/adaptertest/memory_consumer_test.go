package adaptertest_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/flow"
	"github.com/hapax-go/hapax/dedup"
)

type subscriber struct {
	*memory
	subscription adapters.Subscription

	mu        sync.Mutex
	closed    bool
	consumers []*consumer
}

func (s *subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.isClosed() {
		return nil, errClosed
	}
	window := s.subscription.Window
	switch {
	case s.server.has("hands out one at a time"):
		window = 1
	case s.server.has("exceeds the window"):
		window += 3
	}
	c := &consumer{subscriber: s, flow: flow.New(flow.Config{Window: window}), topic: topic, gone: make(chan struct{})}
	c.ctx, c.stop = context.WithCancel(ctx)
	c.messages, c.cutOff = context.WithCancel(context.WithoutCancel(ctx))
	s.consumers = append(s.consumers, c)
	s.server.mu.Lock()
	s.server.group(topic, s.subscription.Group)
	s.server.mu.Unlock()
	go c.run()
	return c.flow.Messages(), nil
}

func (s *subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	consumers := slices.Clone(s.consumers)
	s.mu.Unlock()
	for _, c := range consumers {
		c.stop()
		<-c.gone
	}
	return nil
}

type consumer struct {
	*subscriber
	flow     *flow.Flow
	topic    string
	ctx      context.Context
	stop     context.CancelFunc
	messages context.Context // of the messages
	cutOff   context.CancelFunc
	gone     chan struct{}
}

func (c *consumer) run() {
	defer close(c.gone)
	for c.ctx.Err() == nil {
		c.server.mu.Lock()
		changed := c.server.changed
		items, wait := c.take(c.flow.Room())
		c.server.mu.Unlock()
		for _, i := range items {
			d := &delivery{consumer: c, item: i}
			if c.flow.Offer(c.ctx, d) != nil {
				d.Abandoned()
			}
		}
		if len(items) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-time.After(wait):
		case <-c.ctx.Done():
		}
	}
	timeout := max(c.subscription.DrainTimeout, 0)
	if c.server.has("does not drain") {
		timeout = 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	_ = c.flow.Drain(ctx)
	if !c.server.has("keeps contexts alive") {
		c.cutOff()
	}
}

// take claims items, the oldest of each key first; a key that somebody else holds,
// or that waits, is passed over. server.mu is held.
func (c *consumer) take(room int) (taken []*item, wait time.Duration) {
	wait = 50 * time.Millisecond
	if c.isFrozen() {
		return nil, wait
	}
	g, log := c.server.group(c.topic, c.subscription.Group), c.server.topic(c.topic).log
	for ; g.next < len(log); g.next++ {
		g.pending = append(g.pending, &item{position: g.next, msg: log[g.next], key: log[g.next].Metadata.Get(dedup.MetaKey)})
	}
	blocked := map[string]bool{}
	for _, i := range g.pending {
		if len(taken) == room {
			break
		}
		early := time.Until(i.notBefore) > 0
		if early {
			wait = min(wait, time.Until(i.notBefore))
		}
		if i.key != "" && !c.server.has("order ends at the member") {
			blocked[i.key] = blocked[i.key] || i.owner != nil && i.owner != c || i.owner == nil && early
		}
		if i.owner == nil && !early && !(i.key != "" && blocked[i.key]) {
			i.owner = c
			i.attempts++
			taken = append(taken, i)
		}
	}
	return taken, wait
}

// settle removes an item; false: it is somebody else's. server.mu is held.
func (c *consumer) settle(i *item) bool {
	if i.owner != c {
		return false
	}
	g := c.server.group(c.topic, c.subscription.Group)
	g.pending = slices.DeleteFunc(g.pending, func(other *item) bool { return other == i })
	c.server.change()
	return true
}

type delivery struct {
	adapters.Delivery
	*consumer
	item *item
}

type deliveryKey struct{}

func (d *delivery) Message() *message.Message {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	d.Attempt = d.item.attempts
	if d.server.has("does not count attempts") {
		d.Attempt = 1
	}
	d.Position = fmt.Sprintf("%s@%d", d.topic, d.item.position)
	msg := message.NewMessage(d.item.msg.UUID, d.item.msg.Payload)
	msg.Metadata = d.item.msg.Metadata
	if !d.server.has("shares metadata") {
		msg.Metadata = maps.Clone(d.item.msg.Metadata)
	}
	ctx, cancel := context.WithCancel(context.WithValue(d.messages, deliveryKey{}, d))
	msg.SetContext(adapters.WithDelivery(ctx, &d.Delivery))
	go func() {
		defer cancel()
		select {
		case <-msg.Acked():
		case <-msg.Nacked():
		case <-ctx.Done():
		}
	}()
	return msg
}

func (d *delivery) Lane() string {
	if d.subscription.Ordering == adapters.Unordered || d.server.has("drops key order") {
		return ""
	}
	return d.item.key
}

func (d *delivery) Acked() {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	if d.server.has("acks nothing") {
		d.item.owner = nil
		d.server.change()
		return
	}
	d.settle(d.item)
}

func (d *delivery) Nacked() (time.Duration, bool) {
	s := d.server
	s.mu.Lock()
	defer s.mu.Unlock()
	counted := d.Counted(d.item.attempts)
	if s.has("counts the excused") {
		counted = d.item.attempts
	}
	if limit := d.subscription.MaxDeliveries; limit > 0 && counted >= limit {
		if d.settle(d.item) && !s.has("drops dead letters") {
			letter := d.item.msg.Copy()
			if !s.has("gives no reason") {
				letter.Metadata.Set(dedup.MetaDeadReason, "handed out too often")
				letter.Metadata.Set(dedup.MetaDeadTopic, d.topic)
			}
			to := d.subscription.LetterTopic(d.topic)
			if s.has("knows one dead-letter topic") {
				to = dedup.DeadLetterTopic(d.topic)
			}
			s.append(to, letter)
		}
		return 0, false
	}
	if d.item.owner != d.consumer || s.has("ignores nacks") {
		return 0, false
	}
	if s.has("acks on nack") {
		d.settle(d.item)
		return 0, false
	}
	after := d.Requested()
	if after == 0 {
		after = d.subscription.RedeliveryDelay
	}
	if s.has("ignores RetryAfter") {
		after = 0
	}
	d.RetryAfter(0)
	if s.has("forgets its place on nack") {
		d.item.owner, d.item.notBefore = nil, time.Now().Add(after)
		s.change()
		return 0, false
	}
	d.item.attempts++
	return after, true
}

func (d *delivery) Abandoned() {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	if d.item.owner == d.consumer && !d.server.has("keeps what it did not finish") {
		d.item.owner = nil
		d.item.attempts-- // nobody saw it, or it will be counted again
		d.server.change()
	}
}
