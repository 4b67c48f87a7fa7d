package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
)

// strategy is "transaction" of the rules table, for one scope. Claiming is a look
// at the processed IDs of the message's partition; the transaction commits.
type strategy struct {
	broker  *Broker
	options adapters.StrategyOptions
}

// Strategy implements adapters.Broker. Consumers of the group that subscribe from
// now on restore the processed IDs at once, others at their first claim.
func (b *Broker) Strategy(name string, options adapters.StrategyOptions) (dedup.Strategy, error) {
	if name != dedup.StrategyTransaction {
		return nil, fmt.Errorf("strategy %q of broker %s: %w", name, Name, adapters.ErrNoStrategy)
	}
	if options.Window < time.Second {
		return nil, fmt.Errorf("open strategy %q: the window is %s, expected at least 1s", name, options.Window)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.windows[options.Group] = max(b.windows[options.Group], options.Window)
	return &strategy{broker: b, options: options}, nil
}

// Claim implements dedup.Strategy. Killed during it: it only reads.
func (s *strategy) Claim(ctx context.Context, events []*dedup.Event) (dedup.Claim, error) {
	it := &item{done: make(chan struct{})}
	it.deliveries, it.entries = it.oneDelivery[:0], it.oneEntry[:0]
	for _, event := range events {
		d := deliveryFrom(event.Message.Context())
		if d == nil {
			return nil, fmt.Errorf("claim event %q: %w", event.EventID, errNotOurs)
		}
		if err := s.decide(ctx, d, event, it.entries); err != nil {
			return nil, err
		}
		if event.Verdict == dedup.Fresh {
			it.deliveries = append(it.deliveries, d)
			it.entries = append(it.entries, &event.Entry)
		}
	}
	if len(it.entries) == 0 {
		return nil, nil
	}
	return &claim{strategy: s, item: it}, nil
}

// decide sets the verdict on an event, given those of the same claim.
func (s *strategy) decide(ctx context.Context, d *delivery, event *dedup.Event, claimed []*dedup.Entry) error {
	p := d.partition
	if _, err := p.consumer.transact(ctx, s.options.Window); err != nil {
		return err
	}
	if err := p.awaitIDs(ctx); err != nil {
		return err
	}
	for _, other := range claimed {
		if other.ID == event.ID {
			event.Verdict = dedup.InFlight
			return nil
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.undecidable(); err != nil {
		return err
	}
	if p.pending[event.ID] != nil {
		event.Verdict = dedup.InFlight
	} else {
		event.Verdict = p.ids.verdict(event.ID, event.Digest, time.Now())
	}
	return nil
}

// DeadLetter implements dedup.Strategy: the letter and the message's offset are in
// one transaction.
func (s *strategy) DeadLetter(ctx context.Context, event *dedup.Event, letter dedup.Output) error {
	d := deliveryFrom(event.Message.Context())
	if d == nil {
		return fmt.Errorf("dead-letter event %q: %w", event.EventID, errNotOurs)
	}
	t, err := d.partition.consumer.transact(ctx, s.options.Window)
	if err != nil {
		return err
	}
	it := &item{deliveries: []*delivery{d}, done: make(chan struct{})}
	if err := t.publish(ctx, it, []dedup.Output{letter}); err != nil {
		return fmt.Errorf("dead-letter to %q: %w", letter.Topic, err)
	}
	return nil
}

// claim is the right to process the fresh events of one Strategy.Claim. Nothing
// stands for it anywhere: two copies may hold one, and the first to commit wins.
type claim struct {
	strategy *strategy
	item     *item
}

// Context implements dedup.Claim. The delivery's own context ends when its
// partition goes to another member.
func (c *claim) Context(ctx context.Context) context.Context { return ctx }

// Commit implements dedup.Claim. It returns when the transaction that the event
// has joined was committed. Killed before that: nothing happened, and the offset
// is uncommitted. Killed after: the next owner restores the ID before it claims.
func (c *claim) Commit(ctx context.Context, outputs []dedup.Output) error {
	d := c.item.deliveries[0]
	t, err := d.partition.consumer.transact(ctx, c.strategy.options.Window)
	if err != nil {
		return err
	}
	if err := failpoint.Hit(failpoint.BeforePublish); err != nil {
		return err
	}
	if err := t.publish(ctx, c.item, outputs); err != nil {
		return err
	}
	return failpoint.Hit(failpoint.AfterMark)
}

// Release implements dedup.Claim.
func (c *claim) Release(context.Context) {}
