package dedup

import "context"

// leaseContext is cancelled with ErrLeaseLost when its claim is taken over. It
// becomes a real cancellable context only when somebody asks for Done: most
// handlers are over before a heartbeat, and registering each of them with the
// subscription's shared context would cost more than the ledger does.
type leaseContext struct {
	context.Context // the delivery's
	claim           *ledgerClaim
}

// Context implements Claim.
func (c *ledgerClaim) Context(ctx context.Context) context.Context {
	return &leaseContext{Context: ctx, claim: c}
}

func (l *leaseContext) real() context.Context {
	l.claim.mu.Lock()
	defer l.claim.mu.Unlock()
	if l.claim.ctx == nil {
		l.claim.ctx, l.claim.cancel = context.WithCancelCause(l.Context)
		if l.claim.lost {
			l.claim.cancel(ErrLeaseLost)
		}
	}
	return l.claim.ctx
}

// Done implements context.Context.
func (l *leaseContext) Done() <-chan struct{} { return l.real().Done() }

// Err implements context.Context.
func (l *leaseContext) Err() error {
	if l.claim.isLost() {
		return l.real().Err()
	}
	return l.Context.Err()
}

// Value implements context.Context. Once there is a real context it answers, so
// that context.WithCancel below finds it and needs no goroutine, and
// context.Cause finds the reason.
func (l *leaseContext) Value(key any) any {
	l.claim.mu.Lock()
	ctx := l.claim.ctx
	l.claim.mu.Unlock()
	if ctx == nil {
		ctx = l.Context
	}
	return ctx.Value(key)
}

// finish frees the real context, if there is one, when the claim is over.
func (c *ledgerClaim) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		c.cancel(nil)
	}
}
