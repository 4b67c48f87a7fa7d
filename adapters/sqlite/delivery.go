package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox/inbox"
)

// claimed names one pending row and who claims to own it.
type claimed struct {
	group, lane, position, owner int64
}

// delivery is one claimed message on its way through the flow.
type delivery struct {
	adapters.Delivery

	member   *membership
	row      claimed
	lane     string
	attempts int // handed out so often, this time included
	uuid     string
	metadata string
	decoded  message.Metadata // of metadata; for the first handing-out
	payload  []byte

	// settled: a strategy's commit has deleted the pending row already.
	settled atomic.Bool
	// fenced: a commit found that the pending row is not this member's any more.
	fenced  atomic.Bool
	ctx     *adapters.DeliveryContext // of the message handed out last
	retryAt time.Time                 // set by Nacked; read by Abandoned, which follows it
}

// Message implements flow.Delivery.
func (d *delivery) Message() *message.Message {
	d.Attempt = d.attempts
	// A copy each time: a handler may have changed the last one.
	msg := message.NewMessage(d.uuid, slices.Clone(d.payload))
	if msg.Metadata = d.decoded; msg.Metadata == nil {
		msg.Metadata = decodeMetadata(d.metadata)
	}
	d.decoded = nil
	d.ctx = adapters.NewDeliveryContext(d.member.ctx, &d.Delivery, d)
	msg.SetContext(d.ctx)
	return msg
}

// Lane implements flow.Delivery.
func (d *delivery) Lane() string { return d.lane }

// Acked implements flow.Delivery. Killed between the handler's Ack and the commit
// of this delete: the message comes again, as it must.
func (d *delivery) Acked() {
	d.ctx.End(nil)
	if !d.settled.Load() {
		d.member.consumer.ack(d.row)
	}
}

// Nacked implements flow.Delivery: the message is handed out again from memory.
func (d *delivery) Nacked() (time.Duration, bool) {
	d.ctx.End(nil)
	c := d.member.consumer
	counted := d.Counted(d.attempts)
	switch {
	case d.settled.Load():
		// Its commit was told to have succeeded, or the row was gone: there is
		// nothing left to hand out.
		return 0, false
	case d.fenced.Load() || d.member.lost():
		return 0, false // another member has it by now
	case c.exhausted(counted):
		c.bury(d, fmt.Sprintf("handed out %d times and never acknowledged", d.attempts))
		return 0, false
	}
	after := d.Requested()
	if after <= 0 {
		after = c.subscription.RedeliveryDelay
	}
	d.RetryAfter(0)
	d.retryAt = time.Now().Add(after)
	c.recount(d.row, counted)
	d.attempts++
	return after, true
}

// Lost implements flow.Losable.
func (d *delivery) Lost() <-chan struct{} { return d.member.ctx.Done() }

// fence takes note of a commit's error. When the pending row was gone this member has
// nothing more to do with the message, and had better find out what else it lost.
func (d *delivery) fence(err error, gone bool) {
	if gone {
		d.fenced.Store(true)
		signal(d.member.consumer.doubt)
	}
	if errors.Is(err, inbox.ErrUndone) {
		d.Excuse()
	}
}

// Abandoned implements flow.Delivery. The row is freed with all others of this
// member, when it leaves, or was when it was taken for dead.
func (d *delivery) Abandoned() {
	if d.ctx != nil {
		d.ctx.End(errDraining)
	}
	if time.Until(d.retryAt) > time.Second {
		d.member.consumer.postpone(d.row, d.retryAt)
	}
}

// deliveryFrom returns the delivery that a message's context belongs to; nil when it
// is not of this broker.
func deliveryFrom(ctx context.Context) *delivery { return adapters.OwnDelivery[*delivery](ctx) }

var (
	errDraining  = errors.New("subscription was closed before the message was done")
	errLeaseLost = fmt.Errorf("consumer lost its lease: %w", dedup.ErrLeaseLost)
)
