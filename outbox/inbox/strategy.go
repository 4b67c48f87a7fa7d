package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
)

// Marks is the table of processed events in the database of a Group.
type Marks interface {
	// Lookup sets verdicts from what is committed.
	Lookup(ctx context.Context, entries []*dedup.Entry) error
	// Mark inserts marks in the transaction and sets verdicts: Fresh for those
	// it inserted.
	Mark(ctx context.Context, tx *sql.Tx, entries []*dedup.Entry) error
}

// Strategy is "inbox" of the rules table for a database beside the broker: mark
// and the handler's SQL commit in one transaction, and the broker is acknowledged
// after it. Killed before the COMMIT, nothing happened; killed after it, the
// broker delivers again and the mark answers Duplicate.
//
// A handler under it has no outputs: for them to leave if and only if the
// transaction commits they need an outbox.
type Strategy struct {
	// Group runs the transactions.
	Group *Group
	// Marks are in the Group's database.
	Marks Marks
	// Publisher publishes dead letters.
	Publisher message.Publisher
}

// errOutputs is wrapped by ErrBadOutput: running the handler again will not help.
var errOutputs = errors.New("a handler with its own SQL database has no outputs in this version: give it the broker's own strategy with handlers.<name>.strategy in hapax.yaml, or publish from another handler")

// Claim implements dedup.Strategy. It only reads; the commit decides.
func (s *Strategy) Claim(ctx context.Context, events []*dedup.Event) (dedup.Claim, error) {
	entries := make([]*dedup.Entry, len(events))
	for i, event := range events {
		entries[i] = &event.Entry
	}
	if err := s.Marks.Lookup(ctx, entries); err != nil {
		return nil, err
	}
	c := &claim{strategy: s}
	for _, entry := range entries {
		if entry.Verdict == dedup.Fresh {
			c.entries = append(c.entries, entry)
		}
	}
	if len(c.entries) == 0 {
		return nil, nil
	}
	return c, nil
}

// DeadLetter implements dedup.Strategy.
func (s *Strategy) DeadLetter(_ context.Context, _ *dedup.Event, letter dedup.Output) error {
	return s.Publisher.Publish(letter.Topic, letter.Message)
}

type claim struct {
	strategy *Strategy
	entries  []*dedup.Entry
	turn     *Turn
}

// Context implements dedup.Claim.
func (c *claim) Context(ctx context.Context) context.Context {
	c.turn = c.strategy.Group.NewTurn()
	return WithTurn(ctx, c.turn)
}

// Commit implements dedup.Claim.
func (c *claim) Commit(ctx context.Context, outputs []dedup.Output) (err error) {
	if len(outputs) > 0 {
		return fmt.Errorf("%w: %w", dedup.ErrBadOutput, errOutputs)
	}
	if c.turn == nil || c.turn.Unused() {
		err = c.strategy.Group.Do(ctx, c.mark)
	} else {
		err = c.turn.Commit(ctx, c.mark)
	}
	if err != nil {
		return err
	}
	return failpoint.Hit(failpoint.AfterMark)
}

func (c *claim) mark(ctx context.Context, tx *sql.Tx) error {
	if err := failpoint.Hit(failpoint.BeforeMark); err != nil {
		return err
	}
	if err := c.strategy.Marks.Mark(ctx, tx, c.entries); err != nil {
		return err
	}
	for _, entry := range c.entries {
		if err := Refusal(entry); err != nil {
			return err // this unit is undone, with what the handler wrote
		}
	}
	return nil
}

// Release implements dedup.Claim: the handler's writes are undone.
func (c *claim) Release(context.Context) {
	if c.turn != nil {
		c.turn.Release()
	}
}

// Refusal is why an event could not be marked; nil when it was.
func Refusal(entry *dedup.Entry) error {
	switch entry.Verdict {
	case dedup.Fresh:
		return nil
	case dedup.Duplicate:
		return dedup.ErrLostRace
	case dedup.InFlight:
		return dedup.ErrLeaseLost // under another claim's lease
	default:
		return dedup.ErrConflict // it comes again, and is quarantined before it runs
	}
}
