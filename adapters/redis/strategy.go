package redis

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/redis/internal/marks"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
)

// strategy is "xack" of the rules table, for one scope. An optimistic claim is a
// look at the marks, and the commit decides; a pessimistic one is a lease that
// stands as long as its consumer does.
type strategy struct {
	broker  *Broker
	options adapters.StrategyOptions
	sets    sync.Map // of marks, by topic
}

// Strategy implements adapters.Broker.
func (b *Broker) Strategy(name string, options adapters.StrategyOptions) (dedup.Strategy, error) {
	if name != dedup.StrategyXAck {
		return nil, fmt.Errorf("strategy %q of broker %s: %w", name, Name, adapters.ErrNoStrategy)
	}
	if options.Window <= 0 {
		options.Window = 7 * 24 * time.Hour
	}
	if options.Claim == "" {
		options.Claim = dedup.Optimistic
	}
	return &strategy{broker: b, options: options}, nil
}

// set names the marks of a topic.
func (s *strategy) set(topic string) marks.Set {
	if set, known := s.sets.Load(topic); known {
		return set.(marks.Set)
	}
	set := s.broker.marks(topic, s.options.Window)
	s.sets.Store(topic, set)
	return set
}

func foreign(step string, event *dedup.Event) error {
	return fmt.Errorf("%s event %q: the message did not come from a subscriber of this broker, or its context was replaced", step, event.EventID)
}

// Claim implements dedup.Strategy. Killed during an optimistic one: it only reads.
func (s *strategy) Claim(_ context.Context, events []*dedup.Event) (dedup.Claim, error) {
	first := deliveryFrom(events[0].Message.Context())
	if first == nil {
		return nil, foreign("claim", events[0])
	}
	c := &claim{strategy: s, member: first.member}
	set, outcome := s.set(first.topic()), make(chan error, 1)
	c.query = query{set: set, lookups: c.room.lookups[:0], outcome: outcome}
	// Whoever commits has had the answer, so the channel is empty then.
	c.unit = unit{set: set, marks: c.room.marks[:0], outputs: c.room.outputs[:0], entries: c.room.entries[:0], outcome: outcome}
	c.deliveries = c.room.deliveries[:0]
	for _, event := range events {
		d := deliveryFrom(event.Message.Context())
		if d == nil || d.member != first.member {
			return nil, foreign("claim", event)
		}
		look := lookup{event: event, mark: mark{id: event.ID, tag: marks.NewTag(event.Digest), spare: d.token}}
		if s.options.Claim == dedup.Pessimistic {
			// The delivery's own: the retry of a claim whose answer was lost finds its
			// own lease, which stands as long as this consumer does.
			event.Token = d.token
			look.token = event.Token
		}
		c.query.lookups = append(c.query.lookups, look)
	}
	if err := first.member.ask(&c.query); err != nil {
		first.fence(err)
		return nil, err
	}
	for i := range c.query.lookups {
		if look := &c.query.lookups[i]; look.event.Verdict == dedup.Fresh {
			c.deliveries = append(c.deliveries, deliveryFrom(look.event.Message.Context()))
			c.unit.marks = append(c.unit.marks, look.mark)
		}
	}
	if len(c.deliveries) == 0 {
		return nil, nil
	}
	return c, nil
}

// DeadLetter implements dedup.Strategy: the letter is appended and the entry
// acknowledged in one step.
func (s *strategy) DeadLetter(_ context.Context, event *dedup.Event, letter dedup.Output) error {
	d := deliveryFrom(event.Message.Context())
	if d == nil {
		return foreign("dead-letter", event)
	}
	output, err := s.broker.encode(letter.Topic, letter.Message, time.Now())
	if err != nil {
		return err
	}
	d.repay()
	if err := d.member.consumer.await(&unit{outputs: []encoded{output}, entries: []entry{d.own()}}, d.member); err != nil {
		d.fence(err)
		return fmt.Errorf("dead-letter to %q: %w", letter.Topic, err)
	}
	d.settled.Store(true)
	return nil
}

// claim is the right to process the fresh events of one Strategy.Claim.
type claim struct {
	strategy   *strategy
	member     *membership
	deliveries []*delivery
	query      query
	unit       unit
	attempt    unit // at committing unit
	// room is what a claim of one event with one output needs, in one allocation.
	room struct {
		lookups    [1]lookup
		deliveries [1]*delivery
		marks      [1]mark
		outputs    [1]encoded
		entries    [1]entry
	}
}

// Context implements dedup.Claim: the delivery's own context ends when the
// consumer's lease is lost.
func (c *claim) Context(ctx context.Context) context.Context { return ctx }

// Commit implements dedup.Claim. Everything is one step of the server: killed
// before it, nothing happened and the entry is taken over; killed after, the entry
// is gone and no copy gets past the mark. When the answer is lost, the message
// comes again, and the mark says whether it had been committed.
func (c *claim) Commit(_ context.Context, outputs []dedup.Output) error {
	now := time.Now()
	for _, output := range outputs {
		encoded, err := c.strategy.broker.encode(output.Topic, output.Message, now)
		if err != nil {
			return err
		}
		c.unit.outputs = append(c.unit.outputs, encoded)
	}
	for _, d := range c.deliveries {
		c.unit.entries = append(c.unit.entries, d.own())
	}
	if err := c.unit.fits(); err != nil {
		return err
	}
	if err := failpoint.Hit(failpoint.BeforeMark); err != nil {
		return err
	}
	if err := c.decide(); err != nil {
		if len(c.deliveries) > 1 && errors.Is(err, dedup.ErrLostRace) {
			// Of several events some may still be fresh: they come again, singly.
			return fmt.Errorf("commit a batch of %d: %s", len(c.deliveries), err)
		}
		for _, d := range c.deliveries {
			d.fence(err)
		}
		return err
	}
	for _, d := range c.deliveries {
		d.settled.Store(true)
	}
	return failpoint.Hit(failpoint.AfterMark)
}

// decide brings the unit to its outcome. In a cluster it may find another copy that has
// taken the lease and is publishing this moment: that one's commit decides, and is
// waited for, as long as one call may take. Not by a batch: it may hold leases that
// the other waits for.
func (c *claim) decide() error {
	deadline := time.Now().Add(c.strategy.broker.config.Timeout)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		c.attempt = c.unit
		err := c.member.consumer.await(&c.attempt, c.member)
		if !errors.Is(err, dedup.ErrInFlight) || len(c.deliveries) > 1 || time.Now().Add(pause).After(deadline) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-c.member.ctx.Done():
			return err
		}
	}
}

// Release implements dedup.Claim. An optimistic claim holds nothing, unless its commit
// had to take leases.
func (c *claim) Release(ctx context.Context) {
	consumer := c.member.consumer
	if err := consumer.release(ctx, c.unit.marks); err != nil {
		for i, d := range c.deliveries {
			d.owed.Store(&c.unit.marks[i])
		}
		consumer.broker.config.Logger.Warn("release claim: copies of the event wait until it is committed or buried, or this consumer's lease is over", "error", err)
	}
}

// release drops the leases that marks were to be made with.
func (c *consumer) release(ctx context.Context, marks []mark) error {
	args := make([]any, 0, 2*len(marks))
	for _, mark := range marks {
		if mark.token != 0 {
			args = append(args, mark.id[:], binary.BigEndian.AppendUint64(nil, mark.token))
		}
	}
	if len(args) == 0 {
		return nil
	}
	return releaseScript.Run(ctx, c.broker.client, []string{c.leases}, args...).Err()
}

// repay drops a lease whose release failed, before the message is buried: nobody would
// drop it after that.
func (d *delivery) repay() {
	owed := d.owed.Swap(nil)
	if owed == nil {
		return
	}
	c := d.member.consumer
	ctx, cancel := context.WithTimeout(context.Background(), c.broker.config.Timeout)
	defer cancel()
	if err := c.release(ctx, []mark{*owed}); err != nil {
		c.broker.config.Logger.Warn("release claim: copies of the event wait until this consumer's lease is over", "position", d.Position, "error", err)
	}
}

func (d *delivery) topic() string { return d.member.consumer.topic }
