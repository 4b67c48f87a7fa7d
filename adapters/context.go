package adapters

import (
	"context"
	"sync"
)

// DeliveryContext is a message's context. It has the values of the context it is made
// from, which is that of the message's owner: a member of a group, a partition. It
// ends with that one, or with End, when the message is done with. It becomes a real
// cancellable context when somebody asks for Done: registering each message with its
// owner's context would cost more than some brokers' deliveries do.
type DeliveryContext struct {
	context.Context // the owner's
	delivery        *Delivery
	own             any

	mu     sync.Mutex
	real   context.Context
	cancel context.CancelCauseFunc
	cause  error
}

// NewDeliveryContext attaches a delivery to a message's context, and the adapter's own
// value of it, which OwnDelivery returns.
func NewDeliveryContext(owner context.Context, delivery *Delivery, own any) *DeliveryContext {
	return &DeliveryContext{Context: owner, delivery: delivery, own: own}
}

// OwnDelivery returns the adapter's own value of a message's context; the zero value
// when the message came from another adapter, or from none.
func OwnDelivery[T any](ctx context.Context) T {
	own, _ := ctx.Value(ownKey{}).(T)
	return own
}

type ownKey struct{}

// Done implements context.Context.
func (c *DeliveryContext) Done() <-chan struct{} {
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
func (c *DeliveryContext) Err() error {
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
func (c *DeliveryContext) Value(key any) any {
	switch key {
	case deliveryKey{}:
		return c.delivery
	case ownKey{}:
		return c.own
	}
	c.mu.Lock()
	real := c.real
	c.mu.Unlock()
	if real == nil {
		real = c.Context
	}
	return real.Value(key)
}

// End ends the context; because the message is done with when cause is nil.
func (c *DeliveryContext) End(cause error) {
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
