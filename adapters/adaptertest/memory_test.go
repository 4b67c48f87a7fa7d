package adaptertest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
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
