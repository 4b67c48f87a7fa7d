package kafka

import (
	"context"
	"sync"
)

// deliveryFrom returns the delivery that a message's context belongs to.
func deliveryFrom(ctx context.Context) *delivery {
	delivery, _ := ctx.Value(deliveryKey{}).(*delivery)
	return delivery
}

type deliveryKey struct{}

// deliveryContext is a message's context. It has the values of the context that
// Subscribe got, and ends when the work is no longer this member's: when the
// message is acked or nacked, when its partition goes to another member, when
// draining takes too long. It becomes a real cancellable context when somebody asks for Done:
// registering each message with its partition's context would cost more than the
// record does.
type deliveryContext struct {
	context.Context // the partition's
	delivery        *delivery

	mu     sync.Mutex
	real   context.Context
	cancel context.CancelCauseFunc
	cause  error
}

// Done implements context.Context.
func (c *deliveryContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.real == nil {
		c.real, c.cancel = context.WithCancelCause(c.Context)
		if c.cause != nil {
			c.cancel(c.cause)
		}
	}
	return c.real.Done()
}

// Err implements context.Context.
func (c *deliveryContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.real != nil:
		return c.real.Err()
	case c.cause != nil:
		return context.Canceled
	default:
		return c.Context.Err()
	}
}

// Value implements context.Context. The real context, once there is one, answers
// for the context package's own keys, so that derived contexts find it.
func (c *deliveryContext) Value(key any) any {
	if key == (deliveryKey{}) {
		return c.delivery
	}
	c.mu.Lock()
	real := c.real
	c.mu.Unlock()
	if real == nil {
		real = c.Context
	}
	return real.Value(key)
}

// end ends the context, because the message is done with when cause is nil.
func (c *deliveryContext) end(cause error) {
	if cause == nil {
		cause = context.Canceled
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		c.cause = cause
		if c.cancel != nil {
			c.cancel(cause)
		}
	}
}
