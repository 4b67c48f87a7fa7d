package adapters

import (
	"context"
	"sync/atomic"
	"time"
)

// Delivery is what an adapter attaches to a message's context: facts about this
// handing-out, and the way back to the adapter. Broker folders embed it in
// their own type.
type Delivery struct {
	// Attempt counts how often the message was handed out, this time included.
	Attempt int
	// Position is the message's place in the broker, for logs and dead letters:
	// "orders/3@1234".
	Position string

	retryAfter atomic.Int64
	excuse     atomic.Bool
	excused    int
}

type deliveryKey struct{}

// WithDelivery attaches a delivery to a message's context.
func WithDelivery(ctx context.Context, delivery *Delivery) context.Context {
	return context.WithValue(ctx, deliveryKey{}, delivery)
}

// DeliveryFrom returns the delivery of a message's context; nil when the message
// did not come from an adapter of this module.
func DeliveryFrom(ctx context.Context) *Delivery {
	delivery, _ := ctx.Value(deliveryKey{}).(*Delivery)
	return delivery
}

// RetryAfter asks that the message, once nacked, is handed out again no earlier
// than d from then. Safe on nil.
func (d *Delivery) RetryAfter(after time.Duration) {
	if d != nil {
		d.retryAfter.Store(int64(after))
	}
}

// Excuse says that the message, if it is nacked now, is not to blame: a store or a
// broker around the handler is away, or another worker has the event. The handing-out
// does not count against Subscription.MaxDeliveries. Safe on nil.
func (d *Delivery) Excuse() {
	if d != nil {
		d.excuse.Store(true)
	}
}

// Counted returns how many of attempts, the present one included, count against
// Subscription.MaxDeliveries. An adapter asks once for every nack.
func (d *Delivery) Counted(attempts int) int {
	if d.excuse.Swap(false) {
		d.excused++
	}
	return attempts - d.excused
}

// Requested returns the delay asked for by RetryAfter, or zero.
func (d *Delivery) Requested() time.Duration { return time.Duration(d.retryAfter.Load()) }
