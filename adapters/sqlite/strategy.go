package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
	"github.com/hapax-go/hapax/outbox/inbox"
)

// strategy is "inbox" of the rules table, for one scope. Claiming is a look at the
// committed marks; the commit decides.
type strategy struct {
	broker *Broker
	marks  *marks
}

// Strategy implements adapters.Broker.
func (b *Broker) Strategy(name string, options adapters.StrategyOptions) (dedup.Strategy, error) {
	if name != dedup.StrategyInbox {
		return nil, fmt.Errorf("strategy %q of broker %s: %w", name, Name, adapters.ErrNoStrategy)
	}
	kind, err := kindOf(options)
	if err != nil {
		return nil, fmt.Errorf("open strategy %q: %w", name, err)
	}
	marks, err := b.openMarks(b.ctx, options.Window)
	if err != nil {
		return nil, fmt.Errorf("open strategy %q: %w", name, err)
	}
	s := &strategy{broker: b, marks: marks}
	if kind == dedup.Pessimistic {
		return b.newPessimistic(s), nil
	}
	return s, nil
}

// Claim implements dedup.Strategy. Killed during it: it only reads.
func (s *strategy) Claim(ctx context.Context, events []*dedup.Event) (dedup.Claim, error) {
	if err := fromHere(events); err != nil {
		return nil, err
	}
	entries := make([]*dedup.Entry, len(events))
	for i, event := range events {
		event.Token = dedup.NextToken()
		entries[i] = &event.Entry
	}
	if err := s.marks.lookup(ctx, entries); err != nil {
		return nil, err
	}
	if c := s.fresh(events); len(c.deliveries) > 0 {
		return c, nil
	}
	return nil, nil
}

// fromHere checks that events were delivered by a broker of this package: the
// commit deletes their pending rows.
func fromHere(events []*dedup.Event) error {
	for _, event := range events {
		if deliveryFrom(event.Message.Context()) == nil {
			return fmt.Errorf("event %q: the message did not come from a subscriber of this broker, or its context was replaced", event.EventID)
		}
	}
	return nil
}

// fresh makes a claim of the events that are.
func (s *strategy) fresh(events []*dedup.Event) *claim {
	c := &claim{strategy: s}
	c.deliveries = c.oneDelivery[:0]
	c.commit.entries = c.oneEntry[:0]
	for _, event := range events {
		if event.Verdict == dedup.Fresh {
			if c.event == "" {
				c.event = event.EventID
			}
			c.commit.entries = append(c.commit.entries, &event.Entry)
			c.deliveries = append(c.deliveries, deliveryFrom(event.Message.Context()))
		}
	}
	return c
}

// DeadLetter implements dedup.Strategy: the letter is inserted and the message
// acknowledged in one transaction.
func (s *strategy) DeadLetter(ctx context.Context, event *dedup.Event, letter dedup.Output) error {
	if err := fromHere([]*dedup.Event{event}); err != nil {
		return err
	}
	d := deliveryFrom(event.Message.Context())
	if err := s.broker.bury(ctx, d.row, letter); err != nil {
		d.fence(err, errors.Is(err, dedup.ErrLeaseLost))
		return fmt.Errorf("dead-letter to %q: %w", letter.Topic, err)
	}
	d.settled.Store(true)
	return nil
}

// claim is the right to process the fresh events of one Strategy.Claim. Nothing in
// the database stands for it but the pending rows that its deliveries own.
type claim struct {
	strategy   *strategy
	event      string // readable ID of the first one
	deliveries []*delivery
	turn       *inbox.Turn
	commit     commit

	oneDelivery [1]*delivery
	oneEntry    [1]*dedup.Entry
	oneRow      [1]claimed
}

// Context implements dedup.Claim. The delivery's own context ends when the
// consumer's lease is lost; here the transaction is added.
func (c *claim) Context(ctx context.Context) context.Context {
	c.turn = c.strategy.broker.group.NewTurn(c.event)
	return inbox.WithTurn(ctx, c.turn)
}

// Commit implements dedup.Claim. Everything is one transaction: killed before its
// COMMIT, nothing happened and the pending row is taken over; killed after, the
// row is gone and no copy gets past the mark.
func (c *claim) Commit(ctx context.Context, outputs []dedup.Output) error {
	c.commit.rows = c.oneRow[:0]
	for _, d := range c.deliveries {
		c.commit.rows = append(c.commit.rows, d.row)
	}
	c.commit.marks = c.strategy.marks
	now := time.Now()
	for _, output := range outputs {
		row, err := c.strategy.broker.encode(output.Topic, output.Message, now)
		if err != nil {
			return err
		}
		c.commit.outputs = append(c.commit.outputs, &publication{topic: output.Topic, rows: []stored{row}})
	}
	b := c.strategy.broker
	var err error
	if c.turn == nil || c.turn.Unused() {
		err = b.commits.Do(ctx, &c.commit)
	} else {
		err = b.commits.Commit(ctx, c.turn, &c.commit)
	}
	if err != nil {
		for i, d := range c.deliveries {
			d.fence(err, c.commit.gone != nil && c.commit.gone[i])
		}
		return err
	}
	for _, d := range c.deliveries {
		d.settled.Store(true)
	}
	for _, output := range c.commit.outputs {
		b.wakes.topic(output.topic)
	}
	b.wakes.waiting()
	return failpoint.Hit(failpoint.AfterMark)
}

// Release implements dedup.Claim: the handler's writes are undone.
func (c *claim) Release(context.Context) {
	if c.turn != nil {
		c.turn.Release()
	}
}

// commit is what one claim commits.
type commit struct {
	marks   *marks
	entries []*dedup.Entry
	rows    []claimed
	outputs []*publication
	// gone says which of the rows were not their owner's any more; nil: none. A
	// commit can be refused for one row of many, or for no row at all: the others
	// are this member's as before, and nobody else would hand them out.
	gone []bool
}

// errSingly fails a batch in which one unit has lost; the group then runs each
// unit by itself, to see which.
var errSingly = errors.New("a unit of the batch failed")

// runCommits acknowledges, marks and publishes for many claims in the writer's
// transaction.
//
// The acknowledgement comes first because it is the fence: a pending row that is
// not this owner's any more says that somebody took over, and nothing may be
// written (I5). Of two copies of an event only one gets its mark in. The loser is
// undone completely, its acknowledgement included; its caller acknowledges it as
// a duplicate afterwards, and if it is killed before that, the copy comes again
// and is seen to be one.
func runCommits(ctx context.Context, tx *sql.Tx, commits []*commit) error {
	lost := func(err error) error {
		if len(commits) > 1 {
			return errSingly
		}
		return err
	}
	var publications []*publication
	byMarks := map[*marks][]*dedup.Entry{}
	for _, c := range commits {
		if err := c.acknowledge(ctx, tx); err != nil {
			return fmt.Errorf("acknowledge: %w", err)
		}
		if c.gone != nil {
			return lost(dedup.ErrLeaseLost)
		}
		byMarks[c.marks] = append(byMarks[c.marks], c.entries...)
		publications = append(publications, c.outputs...)
	}
	for marks, entries := range byMarks {
		if err := marks.Mark(ctx, tx, entries); err != nil {
			return err
		}
		for _, entry := range entries {
			if entry.Verdict != dedup.Fresh {
				return lost(refusal(entry))
			}
		}
	}
	if err := insertPublications(ctx, tx, publications); err != nil {
		return err
	}
	return failpoint.Hit(failpoint.BeforeMark) // all is written, nothing committed
}

// acknowledge deletes the pending rows, and notes which are gone.
func (c *commit) acknowledge(ctx context.Context, tx *sql.Tx) error {
	c.gone = nil
	for i, row := range c.rows {
		mine, err := row.delete(ctx, tx)
		if err != nil {
			return err
		}
		if !mine && c.gone == nil {
			c.gone = make([]bool, len(c.rows))
		}
		if !mine {
			c.gone[i] = true
		}
	}
	return nil
}

// refusal is why an event could not be marked.
func refusal(entry *dedup.Entry) error {
	switch entry.Verdict {
	case dedup.Duplicate:
		return dedup.ErrLostRace
	case dedup.InFlight:
		return dedup.ErrLeaseLost // under another claim's lease
	default:
		// It comes again, and is then found to be a conflict before it runs.
		return dedup.ErrConflict
	}
}
