package dedup

import (
	"context"
	"sync"
	"sync/atomic"
)

// leaseContext is cancelled with ErrLeaseLost when its claim is taken over, and without a
// cause when the claim is over. It becomes a real cancellable context only when somebody
// asks for Done: most handlers are over before a heartbeat, and registering each of them
// with the subscription's shared context would cost more than the ledger does.
type leaseContext struct {
	context.Context // the delivery's

	lost atomic.Bool
	over atomic.Bool
	mu   sync.Mutex // taken to become real, and to lose
	real atomic.Pointer[realContext]
}

type realContext struct {
	context.Context
	cancel context.CancelCauseFunc
}

// Context implements Claim. It is called once, before the handler runs.
func (c *ledgerClaim) Context(ctx context.Context) context.Context {
	c.context.Context = ctx
	return &c.context
}

func (l *leaseContext) become() *realContext {
	l.mu.Lock()
	defer l.mu.Unlock()
	real := l.real.Load()
	if real == nil {
		real = &realContext{}
		real.Context, real.cancel = context.WithCancelCause(l.Context)
		if l.lost.Load() {
			real.cancel(ErrLeaseLost)
		}
		l.real.Store(real)
		if l.over.Load() { // whoever ended it may not have seen this one
			real.cancel(nil)
		}
	}
	return real
}

// lose cancels the handler's context with ErrLeaseLost.
func (l *leaseContext) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost.Store(true)
	if real := l.real.Load(); real != nil {
		real.cancel(ErrLeaseLost)
	}
}

// Done implements context.Context.
func (l *leaseContext) Done() <-chan struct{} { return l.become().Done() }

// Err implements context.Context.
func (l *leaseContext) Err() error {
	if l.lost.Load() || l.over.Load() {
		return l.become().Err()
	}
	return l.Context.Err()
}

// Value implements context.Context. Once there is a real context it answers, so
// that context.WithCancel below finds it and needs no goroutine, and
// context.Cause finds the reason.
func (l *leaseContext) Value(key any) any {
	if real := l.real.Load(); real != nil {
		return real.Value(key)
	}
	return l.Context.Value(key)
}

// finish ends the context when the claim is over. What a handler has left behind is
// registered with the subscription's no longer.
func (l *leaseContext) finish() {
	l.over.Store(true)
	if real := l.real.Load(); real != nil {
		real.cancel(nil)
	}
}
