package redis

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// delivery is one pending entry on its way through the flow.
type delivery struct {
	adapters.Delivery

	member   *membership
	entry    string // its ID
	fields   map[string]any
	token    uint64 // of its pessimistic claims
	lane     string
	field    string           // the lane's, in the group's hash of lanes
	first    *message.Message // of fields; for the first handing-out
	attempts int              // handed out so often, this time included
	adopted  int              // of attempts, those that the server counted
	since    time.Time        // the last time the server saw it delivered or renewed; guarded by member.mu

	// settled: a commit has acknowledged the entry already.
	settled atomic.Bool
	// fenced: a commit found that the entry is not this member's any more.
	fenced atomic.Bool
	// owed names a lease of this message whose release failed.
	owed atomic.Pointer[mark]
	ctx  *adapters.DeliveryContext // of the message handed out last
}

// Message implements flow.Delivery.
func (d *delivery) Message() *message.Message {
	d.Attempt = d.attempts
	msg := d.first
	if d.first = nil; msg == nil {
		msg = decode(d.fields) // anew: a handler may have changed the last one
	}
	d.ctx = adapters.NewDeliveryContext(d.member.ctx, &d.Delivery, d)
	msg.SetContext(d.ctx)
	return msg
}

// Lane implements flow.Delivery.
func (d *delivery) Lane() string { return d.lane }

// Acked implements flow.Delivery. Killed between the handler's Ack and this XACK:
// the message comes again, as it must.
func (d *delivery) Acked() {
	d.ctx.End(nil)
	if d.settled.Load() {
		d.done()
		return
	}
	d.member.consumer.ack(d)
}

// Nacked implements flow.Delivery: the message is handed out again from memory.
func (d *delivery) Nacked() (time.Duration, bool) {
	d.ctx.End(nil)
	c := d.member.consumer
	switch {
	case d.settled.Load() || d.fenced.Load() || d.member.lost():
		// There is nothing left to hand out, or another consumer has it by now. Or
		// only the claim's lease was lost, and the entry is still this member's.
		d.done()
		d.member.recheck.Store(true)
		return 0, false
	case c.exhausted(d.Counted(d.attempts)):
		c.bury(d, fmt.Sprintf("handed out %d times and never acknowledged", d.attempts))
		return 0, false
	}
	after := d.Requested()
	if after <= 0 {
		after = max(c.subscription.RedeliveryDelay, 0)
	}
	d.RetryAfter(0)
	d.attempts++
	return after, true
}

// Lost implements flow.Losable.
func (d *delivery) Lost() <-chan struct{} { return d.member.ctx.Done() }

// fence takes note of a commit's error: after ErrLeaseLost this member has nothing
// more to do with the message, and had better find out what else it lost.
func (d *delivery) fence(err error) {
	if errors.Is(err, dedup.ErrLeaseLost) {
		d.fenced.Store(true)
		signal(d.member.consumer.doubt)
	}
}

// Abandoned implements flow.Delivery. The entry is left to others with all the
// rest of this member's, when it leaves.
func (d *delivery) Abandoned() {
	if d.ctx != nil {
		d.ctx.End(errDraining)
	}
	d.done()
}

// own names the entry, and the lane that it may free.
func (d *delivery) own() entry { return entry{d.entry, d.field} }

// done forgets the delivery.
func (d *delivery) done() {
	d.member.mu.Lock()
	delete(d.member.held, d.entry)
	d.member.mu.Unlock()
}

// deliveryFrom returns the delivery that a message's context belongs to; nil when it
// is not of this broker.
func deliveryFrom(ctx context.Context) *delivery { return adapters.OwnDelivery[*delivery](ctx) }

func signal(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
