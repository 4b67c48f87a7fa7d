package adaptertest_test

import (
	"context"
	"errors"
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

// server is the smallest broker that passes the suite. It exists to show that the
// suite can be passed, and, with defects, that it can fail.
type server struct {
	defect string

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every change
	topics  map[string]*topic
	marks   map[dedup.ID]dedup.Digest
}

type topic struct {
	log    []*message.Message
	groups map[string]*group
}

type group struct {
	next    int     // of the log
	pending []*item // taken from the log and not acked, in order
}

// item is a message of a group.
type item struct {
	position  int
	msg       *message.Message
	key       string
	attempts  int
	notBefore time.Time
	owner     *consumer // nil: free
}

func newServer(defect string) *server {
	return &server{defect: defect, changed: make(chan struct{}), topics: map[string]*topic{}, marks: map[dedup.ID]dedup.Digest{}}
}

func (s *server) has(defect string) bool { return s.defect == defect }

func (s *server) topic(name string) *topic {
	if s.topics[name] == nil {
		s.topics[name] = &topic{groups: map[string]*group{}}
	}
	return s.topics[name]
}

func (s *server) group(topicName, name string) *group {
	t := s.topic(topicName)
	if t.groups[name] == nil {
		t.groups[name] = &group{}
		if s.has("new groups start at the end") {
			t.groups[name].next = len(t.log)
		}
	}
	return t.groups[name]
}

func (s *server) change() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *server) append(topicName string, messages ...*message.Message) {
	for _, msg := range messages {
		stored := msg.Copy()
		stored.Payload = slices.Clone(msg.Payload)
		if s.has("loses metadata") {
			delete(stored.Metadata, "größe")
		}
		if s.has("draws a new UUID") {
			stored.UUID = "another"
		}
		s.topic(topicName).log = append(s.topic(topicName).log, stored)
	}
	s.change()
}

// memory is a connection.
type memory struct {
	server *server

	mu     sync.Mutex
	closed bool
	frozen bool
	subs   []*subscriber
}

var errClosed = errors.New("memory broker is closed")

func (m *memory) isClosed() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.closed }

func (m *memory) Capabilities() adapters.Capabilities {
	return adapters.Capabilities{
		Name: "memory", Strategies: []string{"inbox"}, AtomicCommit: true, ConsumerGroups: true,
		OrderAcrossConsumers: true, Replay: true,
	}
}

func (m *memory) Publisher() message.Publisher { return &publisher{memory: m} }

func (m *memory) Subscriber(subscription adapters.Subscription) (message.Subscriber, error) {
	if m.isClosed() {
		return nil, errClosed
	}
	s := &subscriber{memory: m, subscription: subscription.WithDefaults()}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.subs = append(m.subs, s)
	return s, nil
}

func (m *memory) Strategy(name string, options adapters.StrategyOptions) (dedup.Strategy, error) {
	if name != "inbox" {
		return nil, fmt.Errorf("strategy %q: %w", name, adapters.ErrNoStrategy)
	}
	return &strategy{memory: m, options: options}, nil
}

func (m *memory) Check(context.Context) []adapters.Finding { return nil }
func (m *memory) Ping(context.Context) error               { return nil }

func (m *memory) Close() error {
	m.mu.Lock()
	m.closed = true
	subs := slices.Clone(m.subs)
	m.mu.Unlock()
	for _, s := range subs {
		_ = s.Close()
	}
	return nil
}

// freeze lets others take what this connection's consumers hold.
func (m *memory) freeze() {
	m.mu.Lock()
	m.frozen = true
	m.mu.Unlock()
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	for _, t := range m.server.topics {
		for _, g := range t.groups {
			for _, i := range g.pending {
				if i.owner != nil && i.owner.memory == m {
					i.owner = nil
				}
			}
		}
	}
	m.server.change()
}

func (m *memory) isFrozen() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.frozen }

type publisher struct {
	memory *memory
	mu     sync.Mutex
	closed bool
}

func (p *publisher) Publish(topic string, messages ...*message.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.memory.isClosed() || p.closed && !p.memory.server.has("publishes when closed") {
		return errClosed
	}
	p.memory.server.mu.Lock()
	defer p.memory.server.mu.Unlock()
	p.memory.server.append(topic, messages...)
	return nil
}

func (p *publisher) Close() error { p.mu.Lock(); defer p.mu.Unlock(); p.closed = true; return nil }

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
			if c.flow.Offer(context.Background(), d) != nil {
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
	item    *item
	settled bool // by a strategy; server.mu
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
	if limit := d.subscription.MaxDeliveries; limit > 0 && d.item.attempts >= limit {
		if d.settle(d.item) && !s.has("drops dead letters") {
			letter := d.item.msg.Copy()
			if !s.has("gives no reason") {
				letter.Metadata.Set("hapax_dead_reason", "handed out too often")
			}
			s.append(dedup.DeadLetterTopic(d.topic), letter)
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

// strategy marks, publishes and settles in one critical section.
type strategy struct {
	memory  *memory
	options adapters.StrategyOptions
}

type claim struct {
	*strategy
	events []*dedup.Event
}

func (s *strategy) Claim(_ context.Context, events []*dedup.Event) (dedup.Claim, error) {
	server := s.memory.server
	server.mu.Lock()
	defer server.mu.Unlock()
	fresh := &claim{strategy: s}
	for _, event := range events {
		id := event.ID
		if server.has("one scope for all") {
			id = dedup.NewID(dedup.Scope{}, event.EventID)
		}
		digest, marked := server.marks[id]
		switch {
		case !marked || server.has("never a duplicate"):
			event.Verdict = dedup.Fresh
			fresh.events = append(fresh.events, event)
			if server.has("marks at claim") {
				server.marks[id] = event.Digest
			}
		case digest.Matches(event.Digest) || server.has("never a conflict"):
			event.Verdict = dedup.Duplicate
		default:
			event.Verdict = dedup.Conflict
		}
	}
	if len(fresh.events) == 0 {
		return nil, nil
	}
	return fresh, nil
}

func (s *strategy) DeadLetter(_ context.Context, event *dedup.Event, letter dedup.Output) error {
	server := s.memory.server
	server.mu.Lock()
	defer server.mu.Unlock()
	server.append(letter.Topic, letter.Message)
	if server.has("marks dead letters") {
		server.marks[event.ID] = event.Digest
	}
	return nil
}

func (c *claim) Context(ctx context.Context) context.Context { return ctx }
func (c *claim) Release(context.Context)                     {}

func (c *claim) Commit(_ context.Context, outputs []dedup.Output) error {
	server := c.memory.server
	server.mu.Lock()
	defer server.mu.Unlock()
	publish := func() {
		for _, output := range outputs {
			server.append(output.Topic, output.Message)
		}
	}
	if server.has("publishes before it checks") {
		publish()
	}
	for _, event := range c.events {
		d := event.Message.Context().Value(deliveryKey{}).(*delivery)
		if d.item.owner != d.consumer && !server.has("commits for zombies") {
			return dedup.ErrLeaseLost
		}
		if _, marked := server.marks[event.ID]; marked && !server.has("never loses a race") && !server.has("marks at claim") {
			return dedup.ErrLostRace
		}
	}
	for _, event := range c.events {
		id := event.ID
		if server.has("one scope for all") {
			id = dedup.NewID(dedup.Scope{}, event.EventID)
		}
		server.marks[id] = event.Digest
	}
	if !server.has("publishes before it checks") {
		publish()
	}
	return nil
}
