package adaptertest_test

import (
	"context"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

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
