package dedup_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/memory"
	"github.com/hapax-go/hapax/internal/failpoint"
)

// Every invariant of the processing order is a check that holds for the right
// order and fails for each wrong one: a check that cannot fail proves nothing.
func TestInvariants(t *testing.T) {
	invariants := []struct {
		name  string
		check func(build) error
		wrong map[string]build
	}{
		{"I1 the mark never precedes the outputs", outputsBeforeMark, map[string]build{
			"marks, then publishes":        strategyMutant(func(s mutant) mutant { s.markFirst = true; return s }),
			"hands outputs to the Router":  routerPublishes,
			"Watermill's own Deduplicator": watermillDeduplicator,
		}},
		{"I2 the acknowledgement never precedes the mark", markBeforeAck, map[string]build{
			"acknowledges, then marks": acknowledgesFirst,
		}},
		{"I3 a failed handler leaves no mark", failureLeavesNoMark, map[string]build{
			"marks on claim":               strategyMutant(func(s mutant) mutant { s.markOnClaim = true; return s }),
			"Watermill's own Deduplicator": watermillDeduplicator,
		}},
		{"I4 an in-flight copy is never acknowledged", inFlightGoesBack, map[string]build{
			"takes in flight for duplicate": strategyMutant(func(s mutant) mutant { s.inFlightIsDuplicate = true; return s }),
		}},
		{"I5 a worker that was taken over cannot commit", takenOverCannotCommit, map[string]build{
			"ignores the token": strategyMutant(func(s mutant) mutant { s.ignoreLost = true; return s }),
		}},
		{"I6 a conflict is an error, not a duplicate", conflictIsVisible, map[string]build{
			"compares IDs only": strategyMutant(func(s mutant) mutant { s.dropDigest = true; return s }),
		}},
		{"I7 an output has the same ID on every run", outputIDsAreStable, map[string]build{
			"draws a new ID": strategyMutant(func(s mutant) mutant { s.randomOutputID = true; return s }),
		}},
		{"I8 a duplicate is decided on all 16 bytes", wholeIDDecides, map[string]build{
			"compares 8 bytes": strategyMutant(func(s mutant) mutant { s.halfID = true; return s }),
		}},
	}
	for _, invariant := range invariants {
		t.Run(invariant.name, func(t *testing.T) {
			require.NoError(t, invariant.check(rightOrder))
			for name, wrong := range invariant.wrong {
				require.Error(t, invariant.check(wrong), "the check must catch an order that %s", name)
			}
		})
	}
}

// outputsBeforeMark: the publisher fails after the handler succeeded. If the mark
// came first, the next delivery is a duplicate and the output is lost.
func outputsBeforeMark(build build) error {
	r := newRig(build)
	defer r.stop()
	r.returns("shipment")
	r.published.failing(errInjected)
	if r.deliver(order("1")) {
		return errors.New("acknowledged without its output")
	}
	r.published.failing(nil)
	if !r.deliver(order("1")) {
		return errors.New("second delivery went back")
	}
	return expect(len(r.published.ids()) == 1, "%d outputs, expected 1", len(r.published.ids()))
}

// markBeforeAck: the mark fails. If the acknowledgement came first, the broker
// forgets the message although nothing was marked.
func markBeforeAck(build build) error {
	store := memory.New(memory.Config{})
	r := newRigOn(build, broken{Ledger: store, complete: func([]*dedup.Entry) error { return errInjected }})
	defer r.stop()
	r.returns("shipment")
	return expect(!r.deliver(order("1")), "acknowledged although the mark failed")
}

// failureLeavesNoMark: error, panic and cancellation, then success.
func failureLeavesNoMark(build build) error {
	failures := map[string]func() error{
		"error":  func() error { return errInjected },
		"panic":  func() error { panic("injected") },
		"cancel": func() error { return context.DeadlineExceeded },
	}
	for name, fail := range failures {
		r := newRig(build)
		r.handle = func(*message.Message) ([]*message.Message, error) { return nil, fail() }
		acked := r.deliver(order("1"))
		runs := r.returns("shipment")
		again := r.deliver(order("1"))
		r.stop()
		if err := expect(!acked && again && *runs == 1, "%s: acked %v, then %v after %d runs", name, acked, again, *runs); err != nil {
			return err
		}
	}
	return nil
}

// inFlightGoesBack: a copy arrives while the first is being handled, and the first
// then fails. Had the copy been acknowledged, the event would be lost.
func inFlightGoesBack(build build) error {
	r := newRig(build)
	defer r.stop()
	copyAcked := false
	r.handle = func(*message.Message) ([]*message.Message, error) {
		copyAcked = r.deliver(order("1"))
		return nil, errInjected
	}
	r.deliver(order("1"))
	return expect(!copyAcked, "the copy was acknowledged while the event was in flight")
}

// takenOverCannotCommit: the lease runs out during the handler, another worker
// takes over and commits; then the first worker tries to.
func takenOverCannotCommit(build build) error {
	now := time.Now()
	ledger := outside{memory.New(memory.Config{Now: func() time.Time { return now }})}
	r := newRigOn(build, ledger)
	defer r.stop()
	r.handle = func(msg *message.Message) ([]*message.Message, error) {
		now = now.Add(time.Hour)
		event := dedup.EventFrom(msg.Context())
		other := event.Entry
		other.Token = dedup.NextToken()
		takeover := []*dedup.Entry{&other}
		if err := errors.Join(ledger.Claim(msg.Context(), time.Minute, takeover), ledger.Complete(msg.Context(), takeover)); err != nil {
			return nil, err
		}
		if other.Verdict != dedup.Fresh {
			return nil, errors.New("takeover refused")
		}
		return nil, nil
	}
	return expect(!r.deliver(order("1")), "the worker that was taken over committed")
}

// conflictIsVisible: the same ID with other content.
func conflictIsVisible(build build) error {
	r := newRig(build)
	defer r.stop()
	r.deliver(order("1"))
	changed := order("1")
	changed.Payload = []byte(`{"order":"1","amount":2}`)
	return expect(!r.deliver(changed), "a second payload under the same ID was acknowledged")
}

// outputIDsAreStable: killed after publishing and before the mark, so that the
// output is published twice; its ID must be the same.
func outputIDsAreStable(build build) error {
	r := newRig(build)
	defer r.stop()
	r.returns("shipment")
	defer failpoint.Arm(failpoint.BeforeMark, failpoint.OnHit(1, func() error { return errInjected }))()
	r.deliver(order("1"))
	r.deliver(order("1"))
	ids := r.published.ids()
	return expect(len(ids) == 2 && same(ids), "IDs of the two copies: %v", ids)
}

// wholeIDDecides: two events whose IDs differ in the last byte only, put under the
// strategy through a middleware that changes the ID.
func wholeIDDecides(build build) error {
	r := newRig(build)
	defer r.stop()
	first, second := dedup.Entry{Scope: scope}, dedup.Entry{Scope: scope}
	second.ID[15] = 1
	strategy := lastStrategy
	if strategy == nil {
		strategy = dedup.NewLedgerStrategy(r.ledger, r.published, quiet)
	}
	defer func() { lastStrategy = nil }()
	ctx := context.Background()
	for _, entry := range []dedup.Entry{first, second} {
		event := &dedup.Event{Entry: entry, Message: order("1")}
		claim, err := strategy.Claim(ctx, []*dedup.Event{event})
		if err != nil {
			return err
		}
		if event.Verdict != dedup.Fresh {
			return errors.New("a distinct ID was taken for a duplicate")
		}
		if err := claim.Commit(ctx, nil); err != nil {
			return err
		}
	}
	if closer, ok := strategy.(interface{ Close() error }); ok {
		return closer.Close()
	}
	return nil
}

// The regression behind all of this: Watermill's Deduplicator marks before the
// handler runs, so a handler that fails once never sees its message again.
func TestWatermillDeduplicatorLosesAFailedMessage(t *testing.T) {
	lost := func(build build) bool {
		r := newRig(build)
		defer r.stop()
		r.handle = func(*message.Message) ([]*message.Message, error) { return nil, errInjected }
		r.deliver(order("1"))
		runs := r.returns("shipment")
		acked := r.deliver(order("1"))
		return acked && *runs == 0
	}
	require.True(t, lost(watermillDeduplicator), "Watermill's Deduplicator no longer loses the message: update the docs")
	require.False(t, lost(rightOrder))
}

func watermillDeduplicator(*rig) message.HandlerMiddleware {
	return (&middleware.Deduplicator{KeyFactory: func(msg *message.Message) (string, error) { return msg.UUID, nil }}).Middleware
}

// routerPublishes is the obvious middleware: it marks what the handler has
// processed and hands the outputs on.
func routerPublishes(r *rig) message.HandlerMiddleware {
	wrap := rightOrder(r)
	return func(handle message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) (outputs []*message.Message, err error) {
			_, err = wrap(func(msg *message.Message) ([]*message.Message, error) {
				outputs, err = handle(msg)
				return nil, err
			})(msg)
			return outputs, err
		}
	}
}

func acknowledgesFirst(r *rig) message.HandlerMiddleware {
	wrap := rightOrder(r)
	return func(handle message.HandlerFunc) message.HandlerFunc {
		return wrap(func(msg *message.Message) ([]*message.Message, error) {
			outputs, err := handle(msg)
			if err == nil {
				msg.Ack()
			}
			return outputs, err
		})
	}
}

// mutant is a ledger strategy with one of its rules broken.
type mutant struct {
	*dedup.LedgerStrategy
	rig                 *rig
	markFirst           bool
	markOnClaim         bool
	inFlightIsDuplicate bool
	ignoreLost          bool
	dropDigest          bool
	randomOutputID      bool
	halfID              bool
}

var lastStrategy dedup.Strategy // the mutant that wholeIDDecides asks directly

func strategyMutant(break_ func(mutant) mutant) build {
	return func(r *rig) message.HandlerMiddleware {
		strategy := break_(mutant{LedgerStrategy: dedup.NewLedgerStrategy(r.ledger, r.published, quiet), rig: r})
		if strategy.halfID {
			lastStrategy = strategy
		}
		return r.middleware(strategy)
	}
}

func (m mutant) Claim(ctx context.Context, events []*dedup.Event) (dedup.Claim, error) {
	for _, event := range events {
		if m.dropDigest {
			event.Digest = dedup.Digest{}
		}
		if m.halfID {
			clear(event.ID[8:])
		}
	}
	claim, err := m.LedgerStrategy.Claim(ctx, events)
	if m.inFlightIsDuplicate && events[0].Verdict == dedup.InFlight {
		events[0].Verdict = dedup.Duplicate
	}
	if claim == nil || err != nil {
		return claim, err
	}
	entries := []*dedup.Entry{&events[0].Entry}
	if m.markOnClaim {
		err = m.rig.ledger.Complete(ctx, entries)
	}
	return mutantClaim{Claim: claim, mutant: m, entries: entries}, err
}

type mutantClaim struct {
	dedup.Claim
	mutant
	entries []*dedup.Entry
}

func (c mutantClaim) Context(ctx context.Context) context.Context { return c.Claim.Context(ctx) }

func (c mutantClaim) Release(ctx context.Context) { c.Claim.Release(ctx) }

func (c mutantClaim) Commit(ctx context.Context, outputs []dedup.Output) error {
	if c.markFirst {
		if err := c.rig.ledger.Complete(ctx, c.entries); err != nil {
			return err
		}
	}
	for _, output := range outputs {
		if c.randomOutputID {
			output.Message.Metadata.Set(dedup.MetaEventID, uuid.NewString())
		}
	}
	err := c.Claim.Commit(ctx, outputs)
	if c.ignoreLost && errors.Is(err, dedup.ErrLeaseLost) {
		return nil
	}
	return err
}
