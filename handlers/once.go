package handlers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
)

const (
	journalLease   = 30 * time.Second
	journalTimeout = 10 * time.Second
	// journalPoll is how often Once asks whether another run has ended.
	journalPoll = 250 * time.Millisecond
)

// ErrNoJournal: Once was called where there is no journal to write to.
var ErrNoJournal = errors.New("there is no journal: set dedup.ledger.store in hapax.yaml, and call Once with a handler's context that takes single events")

type journalKey struct{}

// Journal returns a Watermill middleware that gives handlers the journal of Once:
// a ledger. The ledger stays the caller's.
func Journal(ledger dedup.Ledger) message.HandlerMiddleware {
	return func(handle message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			outer := msg.Context()
			defer msg.SetContext(outer)
			msg.SetContext(context.WithValue(outer, journalKey{}, ledger))
			return handle(msg)
		}
	}
}

// Once runs an effect in the outside world that no transaction covers, such as a
// call to a payment provider, and writes in the journal that it has succeeded. When
// the handler runs again for the same event, because something after the effect
// failed or its process died, Once returns nil and does not run it. The name tells
// apart several effects of one handler. What the effect finds out, it has to keep
// itself; an effect that fails is not in the journal, and may run again.
//
// Between the effect and the journal a process can die. Then the effect runs once
// more: at least once, with the same key. Pass the key to the provider as its
// idempotency key; together they make the effect happen once.
//
// While one run of an effect lasts, another waits for it until ctx ends. The journal
// is the ledger of the service, and forgets after dedup.window. With the embedded
// broker, or SQLite in the sql block, call Once before inbox.Tx: the journal does
// not commit with that transaction, and would wait for it.
//
// Errors: the effect's own, one of the journal, ErrNoJournal, and those of
// IdempotencyKey.
func Once(ctx context.Context, name string, effect func(ctx context.Context, key string) error) error {
	key, err := IdempotencyKey(ctx, name)
	if err != nil {
		return err
	}
	ledger, _ := ctx.Value(journalKey{}).(dedup.Ledger)
	if ledger == nil {
		return fmt.Errorf("run effect %q once: %w", name, ErrNoJournal)
	}
	event := dedup.EventFrom(ctx)
	entry := &dedup.Entry{
		ID: dedup.NewID(dedup.Scope{Service: "journal"}, key), Token: dedup.NextToken(),
		EventID: event.EventID + "/" + name, Scope: event.Scope, Topic: event.Topic,
	}
	entries := []*dedup.Entry{entry}
	if err := claimEffect(ctx, ledger, entries); err != nil {
		giveBack(ctx, ledger, entries) // the call may have been applied
		return fmt.Errorf("claim effect %q: %w", name, err)
	}
	if entry.Verdict == dedup.Duplicate {
		return nil
	}
	return runEffect(ctx, ledger, entries, name, func() error { return effect(ctx, key) })
}

// claimEffect waits while another run has the effect.
func claimEffect(ctx context.Context, ledger dedup.Ledger, entries []*dedup.Entry) error {
	lease := journalLease
	if _, resident := ledger.(dedup.Resident); resident {
		lease = dedup.Forever
	}
	for {
		if err := ledger.Claim(ctx, lease, entries); err != nil {
			return err
		}
		if entries[0].Verdict != dedup.InFlight {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("another run of it has not ended: %w", context.Cause(ctx))
		case <-time.After(journalPoll):
		}
	}
}

// runEffect keeps the lease alive while the effect runs. It says what became of it
// even when ctx has ended, because the effect was made all the same.
func runEffect(ctx context.Context, ledger dedup.Ledger, entries []*dedup.Entry, name string, effect func() error) error {
	detached, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var renewing sync.WaitGroup
	held := *entries[0] // the renewing must not meet what Complete writes
	renewing.Go(func() {
		if _, resident := ledger.(dedup.Resident); resident {
			return // its leases have no end
		}
		ticker := time.NewTicker(journalLease / 3)
		defer ticker.Stop()
		for {
			select {
			case <-detached.Done():
				return
			case <-ticker.C:
				renewed := held
				_ = ledger.Renew(detached, journalLease, []*dedup.Entry{&renewed}) // the next one may succeed
			}
		}
	})
	done := false
	defer func() {
		cancel()
		renewing.Wait()
		if !done { // it failed, or panicked
			giveBack(ctx, ledger, entries)
		}
	}()
	if err := effect(); err != nil {
		return err
	}
	done = true
	writing, stop := context.WithTimeout(detached, journalTimeout)
	defer stop()
	if err := ledger.Complete(writing, entries); err != nil {
		return fmt.Errorf("note effect %q in the journal: it was made, and will be made again with the same key: %w", name, err)
	}
	if entries[0].Lost {
		return fmt.Errorf("note effect %q in the journal: %w", name, dedup.ErrLeaseLost)
	}
	return nil
}

// giveBack drops the lease; else the next run waits until it has run out.
func giveBack(ctx context.Context, ledger dedup.Ledger, entries []*dedup.Entry) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), journalTimeout)
	defer cancel()
	_ = ledger.Release(ctx, entries)
}
