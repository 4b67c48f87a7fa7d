package coalesce

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hapax-go/hapax/dedup"
)

// ErrClosed: the ledger was closed before the call.
var ErrClosed = errors.New("ledger is closed")

// Option configures a Ledger.
type Option func(*Ledger)

// MaxBatch bounds the entries of one call of the store. A caller's call is never
// split: one with more entries than this goes alone. Default 500.
func MaxBatch(entries int) Option { return func(l *Ledger) { l.maxBatch = entries } }

// Timeout bounds one call of the store. Default 30s.
func Timeout(d time.Duration) Option { return func(l *Ledger) { l.timeout = d } }

// Ledger is a dedup.Ledger that joins concurrent calls. All methods are safe for
// concurrent use.
type Ledger struct {
	store    dedup.Ledger
	maxBatch int
	timeout  time.Duration

	claim, renew, complete, release lane
	// left are the calls in flight, by the tokens of their entries, whose callers wait no
	// more: uint64 to *call.
	left sync.Map

	// closing orders joining a lane before, or after, Close.
	closing sync.RWMutex
	closed  bool
	running sync.WaitGroup // lanes that have work
	once    sync.Once
	err     error // of closing the store
}

var _ dedup.Ledger = (*Ledger)(nil)

// New returns a ledger in front of store, which it owns: Close closes it.
func New(store dedup.Ledger, options ...Option) *Ledger {
	l := &Ledger{store: store, maxBatch: 500, timeout: 30 * time.Second}
	for _, option := range options {
		option(l)
	}
	for _, lane := range []*lane{&l.claim, &l.renew, &l.complete, &l.release} {
		lane.forget = l.forget
	}
	l.claim.send = store.Claim
	l.renew.send = store.Renew
	l.complete.send = func(ctx context.Context, _ time.Duration, entries []*dedup.Entry) error {
		return store.Complete(ctx, entries)
	}
	l.release.send = func(ctx context.Context, _ time.Duration, entries []*dedup.Entry) error {
		return store.Release(ctx, entries)
	}
	return l
}

// Claim implements dedup.Ledger. Calls with different leases go in different
// batches.
func (l *Ledger) Claim(ctx context.Context, lease time.Duration, entries []*dedup.Entry) error {
	return l.do(ctx, &l.claim, lease, entries)
}

// Renew implements dedup.Ledger.
func (l *Ledger) Renew(ctx context.Context, lease time.Duration, entries []*dedup.Entry) error {
	return l.do(ctx, &l.renew, lease, entries)
}

// Complete implements dedup.Ledger.
func (l *Ledger) Complete(ctx context.Context, entries []*dedup.Entry) error {
	return l.do(ctx, &l.complete, 0, entries)
}

// Release implements dedup.Ledger. Calls of the same tokens that were left in flight come
// first: a claim that arrives after its release would hold the lease, for nobody.
func (l *Ledger) Release(ctx context.Context, entries []*dedup.Entry) error {
	for _, entry := range entries {
		earlier, is := l.left.Load(entry.Token)
		if !is {
			continue
		}
		select {
		case <-earlier.(*call).done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return l.do(ctx, &l.release, 0, entries)
}

// Close lets the calls that have arrived finish, then closes the store. Calls
// that come later get ErrClosed.
func (l *Ledger) Close() error {
	l.once.Do(func() {
		l.closing.Lock()
		l.closed = true
		l.closing.Unlock()
		l.running.Wait()
		l.err = l.store.Close()
	})
	return l.err
}

// do joins the lane and waits for the outcome.
func (l *Ledger) do(ctx context.Context, lane *lane, lease time.Duration, entries []*dedup.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	call := newCall(lease, entries)
	if err := l.join(lane, call); err != nil {
		return err
	}
	select {
	case <-call.done:
		return call.err
	case <-ctx.Done():
		for i := range call.copies { // before the lane can know of it, and forget it
			l.left.Store(call.copies[i].Token, call)
		}
		if call.settle(abandoned) {
			return context.Cause(ctx)
		}
		l.forget(call)
		<-call.done // the outcome is being written
		return call.err
	}
}

// forget notes that a call that was left is over.
func (l *Ledger) forget(call *call) {
	for i := range call.copies {
		l.left.CompareAndDelete(call.copies[i].Token, call)
	}
}

func (l *Ledger) join(lane *lane, call *call) error {
	l.closing.RLock()
	defer l.closing.RUnlock()
	if l.closed {
		return ErrClosed
	}
	if lane.add(call) {
		l.running.Go(func() { lane.run(l.maxBatch, l.timeout) })
	}
	return nil
}
