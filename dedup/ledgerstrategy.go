package dedup

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/internal/failpoint"
)

// LedgerStrategy deduplicates with a ledger beside the broker: message-id,
// dedup-id and consumer of the rules table. Its commit is a sequence, not a
// transaction, so the order carries the guarantee:
//
//	publish outputs (wait until durable) → mark → acknowledge
//
// Killed between the first two, the next delivery runs the handler again and
// publishes outputs with the same derived IDs (I7), which the next consumer's
// ledger absorbs.
type LedgerStrategy struct {
	ledger    Ledger
	expecter  Expecter // the ledger, if it is one
	publisher message.Publisher
	lease     time.Duration
	keeper    *keeper
	logger    *slog.Logger
}

// LedgerOptions configure a LedgerStrategy.
type LedgerOptions struct {
	// Lease is how long a claim lasts without a heartbeat: the time until
	// another worker takes over from a dead one. Default 30s. Heartbeats go out
	// every third of it. With a Resident ledger it means nothing.
	Lease time.Duration
	// Logger reports leases that were lost or could not be renewed. Default
	// slog.Default().
	Logger *slog.Logger
}

// NewLedgerStrategy returns a strategy over a ledger. publisher must return only
// once the broker has made the messages durable. Close it to stop the heartbeats.
func NewLedgerStrategy(ledger Ledger, publisher message.Publisher, options LedgerOptions) *LedgerStrategy {
	if options.Lease <= 0 {
		options.Lease = 30 * time.Second
	}
	if options.Logger == nil {
		options.Logger = slog.Default()
	}
	expecter, _ := ledger.(Expecter)
	s := &LedgerStrategy{ledger: ledger, expecter: expecter, publisher: publisher, lease: options.Lease, logger: options.Logger}
	if _, resident := ledger.(Resident); resident {
		s.lease = Forever
	} else {
		s.keeper = newKeeper(ledger, options.Lease, options.Logger)
	}
	return s
}

// Close stops the heartbeats. The ledger and the publisher stay open.
func (s *LedgerStrategy) Close() error {
	s.keeper.close()
	return nil
}

// Expect implements Expecter, for the ledger.
func (s *LedgerStrategy) Expect(id ID) {
	if s.expecter != nil {
		s.expecter.Expect(id)
	}
}

// Claim implements Strategy: a lease for each event.
func (s *LedgerStrategy) Claim(ctx context.Context, events []*Event) (Claim, error) {
	claim := events[0].space
	if claim == nil || len(events) > 1 {
		claim = new(ledgerClaim)
	}
	claim.strategy = s
	claim.deadline.Store(s.keeper.deadline())
	claim.entries = claim.one[:0]
	for _, event := range events {
		event.Token = NextToken()
		claim.entries = append(claim.entries, &event.Entry)
	}
	if err := s.ledger.Claim(ctx, s.lease, claim.entries); err != nil {
		// The call may have been applied: hand the leases back, or the next
		// delivery waits for them to run out.
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		_ = s.ledger.Release(release, claim.entries)
		return nil, err
	}
	claim.entries = slices.DeleteFunc(claim.entries, func(e *Entry) bool { return e.Verdict != Fresh })
	if len(claim.entries) == 0 {
		return nil, nil
	}
	s.keeper.add(claim)
	return claim, nil
}

// DeadLetter implements Strategy.
func (s *LedgerStrategy) DeadLetter(_ context.Context, _ *Event, letter Output) error {
	return publish(s.publisher, []Output{letter})
}

// Commit implements Claim.
func (c *ledgerClaim) Commit(ctx context.Context, outputs []Output) error {
	if c.context.lost.Load() {
		return ErrLeaseLost
	}
	// To wait on the lease's context would make it a real one, for every event. What
	// counts from here on is whether the delivery is over.
	if c.context.Context != nil {
		ctx = c.context.Context
	}
	if len(outputs) > 0 {
		if err := c.confirm(ctx); err != nil {
			return err
		}
		if err := failpoint.Hit(failpoint.BeforePublish); err != nil {
			return err
		}
		if err := publish(c.strategy.publisher, outputs); err != nil {
			return err
		}
		if err := failpoint.Hit(failpoint.AfterPublish); err != nil {
			return err
		}
	}
	if err := failpoint.Hit(failpoint.BeforeMark); err != nil {
		return err
	}
	// No heartbeat from here on: one that arrives after the mark would find the
	// lease gone, and take it for lost.
	c.strategy.keeper.remove(c)
	err := c.strategy.ledger.Complete(ctx, c.entries)
	if err != nil && ctx.Err() != nil && len(outputs) > 0 {
		// The delivery is over (its connection broke, say) but its outputs are
		// out: without the mark the next delivery would send them again.
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		err = c.strategy.ledger.Complete(detached, c.entries)
	}
	if err != nil {
		return fmt.Errorf("mark: %w", err)
	}
	if anyLost(c.entries) {
		return ErrLeaseLost
	}
	c.context.finish()
	return failpoint.Hit(failpoint.AfterMark)
}

// confirm asks the ledger whether the lease still stands when it may have run
// out (the process was stopped, or heartbeats did not get through), or nobody can tell
// (the clock was set back), so that a zombie publishes nothing; without outputs the mark's
// own check is enough.
// Between this answer and the publish another worker may still take over; then
// both publish the same IDs and one of them marks.
func (c *ledgerClaim) confirm(ctx context.Context) error {
	left := time.Duration(c.deadline.Load() - time.Now().UnixNano())
	if c.strategy.lease == Forever || left > 0 && left <= c.strategy.lease {
		return nil
	}
	if err := c.strategy.ledger.Renew(ctx, c.strategy.lease, c.entries); err != nil {
		return fmt.Errorf("confirm lease: %w", err)
	}
	if anyLost(c.entries) {
		return ErrLeaseLost
	}
	return nil
}

// Release implements Claim.
func (c *ledgerClaim) Release(ctx context.Context) {
	c.strategy.keeper.remove(c)
	defer c.context.finish()
	if err := c.strategy.ledger.Release(ctx, c.entries); err != nil {
		c.strategy.logger.WarnContext(ctx, "release lease: it will run out by itself",
			"event", c.entries[0].EventID, "lease", c.strategy.lease, "error", err)
	}
}

// publish sends outputs in their order, one call per run of equal topics.
func publish(publisher message.Publisher, outputs []Output) error {
	for len(outputs) > 0 {
		topic := outputs[0].Topic
		if topic == "" {
			return fmt.Errorf("%w: output %s has no topic: return it to one with framework.To, or emit it to one", ErrBadOutput, outputs[0].Message.UUID)
		}
		var batch []*message.Message
		for len(outputs) > 0 && outputs[0].Topic == topic {
			batch = append(batch, outputs[0].Message)
			outputs = outputs[1:]
		}
		if err := publisher.Publish(topic, batch...); err != nil {
			return fmt.Errorf("publish to %s: %w", topic, err)
		}
	}
	return nil
}
