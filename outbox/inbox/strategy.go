package inbox

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/coalesce"
	"github.com/hapax-go/hapax/internal/failpoint"
)

// Strategy is "inbox" of the rules table for a database beside the broker: the
// mark, the handler's SQL and its outputs commit in one transaction, and the
// broker is acknowledged after it. Make one for each handler with Inbox.Strategy.
//
// Killed before the COMMIT, nothing happened, and the broker delivers again.
// Killed after it, the broker delivers again too, and the mark answers Duplicate.
type Strategy struct {
	inbox     *Inbox
	publisher message.Publisher
	pace      pace

	mu sync.Mutex
	// here are the events that this process works on. A copy of one would wait
	// for it in the database, and hold up all that share its transaction; or,
	// being in the same transaction, take a mark for durable that is not (I4).
	here map[dedup.ID]dedup.Digest
}

// Claim implements dedup.Strategy. It only reads; the transaction decides.
func (s *Strategy) Claim(ctx context.Context, events []*dedup.Event) (dedup.Claim, error) {
	entries := s.enter(events)
	if len(entries) == 0 {
		return nil, nil
	}
	if err := s.inbox.marks.lookups.Claim(ctx, 0, entries); err != nil {
		s.leave(entries)
		if errors.Is(err, coalesce.ErrClosed) {
			err = ErrClosed
		}
		return nil, fmt.Errorf("look up marks: %w", err)
	}
	c := &claim{strategy: s}
	c.commit.rows = c.one[:0]
	for _, event := range events {
		if event.Verdict == dedup.Fresh {
			event.Token = dedup.NextToken()
			c.commit.rows = append(c.commit.rows, rowOf(event))
		}
	}
	var known []*dedup.Entry
	for _, entry := range entries {
		if entry.Verdict != dedup.Fresh {
			known = append(known, entry)
		}
	}
	s.leave(known)
	if len(c.commit.rows) == 0 {
		return nil, nil
	}
	return c, nil
}

// enter notes events as worked on here and returns those; the others are in flight.
func (s *Strategy) enter(events []*dedup.Event) []*dedup.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries := make([]*dedup.Entry, 0, len(events))
	for _, event := range events {
		digest, busy := s.here[event.ID]
		switch {
		case !busy:
			s.here[event.ID] = event.Digest
			entries = append(entries, &event.Entry)
		case digest.Matches(event.Digest):
			event.Verdict = dedup.InFlight
		default:
			event.Verdict = dedup.Conflict
		}
	}
	return entries
}

func (s *Strategy) leave(entries []*dedup.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, entry := range entries {
		delete(s.here, entry.ID)
	}
}

// DeadLetter implements dedup.Strategy.
func (s *Strategy) DeadLetter(_ context.Context, _ *dedup.Event, letter dedup.Output) error {
	return s.publisher.Publish(letter.Topic, letter.Message)
}

type claim struct {
	strategy *Strategy
	commit   commit
	turn     *Turn
	left     bool
	one      [1]row
}

// Context implements dedup.Claim.
func (c *claim) Context(ctx context.Context) context.Context {
	c.turn = c.strategy.inbox.runner.turn(&c.commit, &c.strategy.pace)
	return WithTurn(ctx, c.turn)
}

// Commit implements dedup.Claim.
func (c *claim) Commit(ctx context.Context, outputs []dedup.Output) error {
	defer c.leave() // after ErrLostRace nobody calls Release
	if err := c.strategy.inbox.check(outputs); err != nil {
		return err
	}
	c.commit.outputs = outputs
	if c.turn == nil {
		c.turn = c.strategy.inbox.runner.turn(&c.commit, &c.strategy.pace)
	}
	c.commit.result = c.turn.result
	if err := c.strategy.inbox.runner.commit(ctx, c.turn, &c.commit); err != nil {
		return err
	}
	if len(outputs) > 0 {
		c.strategy.inbox.outbox.Stored()
	}
	return failpoint.Hit(failpoint.AfterMark)
}

// Release implements dedup.Claim: the handler's writes are undone.
func (c *claim) Release(context.Context) {
	if c.turn != nil {
		c.turn.Release()
	}
	c.leave()
}

func (c *claim) leave() {
	if c.left {
		return
	}
	c.left = true
	entries := make([]*dedup.Entry, len(c.commit.rows))
	for i, r := range c.commit.rows {
		entries[i] = r.Entry
	}
	c.strategy.leave(entries)
}
