package dedup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/internal/failpoint"
)

// Middleware makes a Watermill handler take effect once per event. This file
// shows the one processing order; every strategy fills in the same four steps.
//
//	identify → claim → handle → commit → (Router acknowledges)
//
// Outputs that the handler returns are published inside the commit. The Router
// gets none of them, because it publishes after every middleware has returned,
// which is after the mark (I1).
type Middleware struct {
	config   Config
	expecter Expecter // the strategy, if it is one
}

// New returns a middleware for one scope.
func New(config Config) (*Middleware, error) {
	if err := config.complete(); err != nil {
		return nil, err
	}
	expecter, _ := config.Strategy.(Expecter)
	return &Middleware{config: config, expecter: expecter}, nil
}

// Wrap is a Watermill message.HandlerMiddleware.
func (m *Middleware) Wrap(handle message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		delivered := msg.Context()
		var held Claim // until it has committed
		// Also when the handler panics (I3). One call: with so many returns Go would keep
		// two of them in a list, at a price for every event.
		defer func() {
			msg.SetContext(delivered) // outer middlewares outlive the claim
			if held != nil {
				m.release(delivered, held)
			}
		}()

		// 1. Identify. Without an ID nothing below can be promised: the error
		// sends the message to the dead-letter topic. Never guess, never drop.
		d, err := m.identify(msg)
		event := &d.event
		if err != nil {
			return nil, m.observe(event, NoID, err)
		}

		// 2. Claim. Killed before or during this: nothing happened, or a lease
		// remains that runs out by itself.
		claim, err := m.claim(delivered, d)
		if err != nil {
			return nil, m.observe(event, Failed, &StepError{"claim", event.EventID, err})
		}
		switch event.Verdict {
		case Fresh:
			held = claim
		case Duplicate:
			return nil, m.observe(event, AlreadyProcessed, nil) // its mark is durable (I4)
		case InFlight:
			return nil, m.observe(event, StillInFlight, fmt.Errorf("event %q: %w", event.EventID, ErrInFlight))
		case Conflict:
			return nil, m.observe(event, Conflicted, fmt.Errorf("event %q: %w", event.EventID, ErrConflict))
		default:
			return nil, fmt.Errorf("claim event %q: strategy left it %s", event.EventID, event.Verdict)
		}
		if err := failpoint.Hit(failpoint.AfterClaim); err != nil {
			return nil, err
		}

		// 3. Handle. Killed here: no mark, no outputs; the broker delivers again.
		handling := d.handling(claim.Context(delivered))
		msg.SetContext(handling)
		outputs, err := handle(msg)
		if err == nil {
			err = noneMissing(outputs)
		}
		if err != nil {
			return nil, m.observe(event, Failed, err)
		}
		if err := failpoint.Hit(failpoint.AfterHandle); err != nil {
			return nil, err
		}

		// 4. Commit. Killed inside: the strategy's atomic step decides. Killed
		// after: the broker delivers again, and step 2 answers Duplicate. (The message's
		// context may have ended with the handler: Watermill's Timeout leaves it so.)
		err = claim.Commit(handling, m.stamp(d.outputs[:0], event, msg.Metadata, outputs))
		switch {
		case err == nil:
			held = nil
			return nil, m.observe(event, Processed, nil)
		case errors.Is(err, ErrLostRace):
			held = nil // the other copy has committed; these effects were discarded
			return nil, m.observe(event, LostRace, nil)
		default:
			return nil, m.observe(event, CommitFailed, &StepError{"commit", event.EventID, err})
		}
	}
}

// claim asks the strategy, and gives an in-flight copy a bounded time for the
// outcome: most often it is a duplicate a moment later, and waiting is cheaper
// than another delivery.
func (m *Middleware) claim(ctx context.Context, d *delivery) (Claim, error) {
	deadline := time.Time{}
	d.one[0], d.event.space = &d.event, &d.claim
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		d.event.Verdict = Undecided
		claim, err := m.config.Strategy.Claim(ctx, d.one[:])
		if err != nil || d.event.Verdict != InFlight {
			return claim, err
		}
		now := time.Now()
		if deadline.IsZero() {
			deadline = now.Add(m.config.InFlightWait)
		}
		if !now.Add(pause).Before(deadline) {
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// release ends a claim that did not commit, even when the delivery's own context
// is over: a lease left behind would make the next copy wait for its expiry.
func (m *Middleware) release(ctx context.Context, claim Claim) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	claim.Release(ctx)
}

const releaseTimeout = 5 * time.Second
