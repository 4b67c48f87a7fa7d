package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// delivery is one record on its way through the flow.
type delivery struct {
	adapters.Delivery

	partition *partition
	record    *kgo.Record
	attempts  int // handed out so often, this time included

	// committing: the transactor has it. It ends the delivery's offset and
	// context then, whatever becomes of the message.
	committing atomic.Bool
	// counted: it is among consumer.active.
	counted atomic.Bool
	// stage is whether it is counted as busy in its partition. The flow may give it up,
	// at the end of its draining, at the moment in which it is passed on to the reader.
	stage atomic.Int32
	ctx   *adapters.DeliveryContext // of the message handed out last
	msg   *message.Message          // handed out last
}

// The stages of a delivery.
const (
	waiting int32 = iota
	sent
	abandoned
)

// Lane implements flow.Delivery.
func (d *delivery) Lane() string {
	switch d.partition.consumer.subscription.Ordering {
	case adapters.Unordered:
		return ""
	case adapters.OrderByPartition:
		return d.partition.lane
	default:
		for _, header := range d.record.Headers {
			if header.Key == dedup.MetaKey {
				return string(header.Value)
			}
		}
		return string(d.record.Key)
	}
}

// Message implements flow.Delivery.
func (d *delivery) Message() *message.Message {
	// A copy each time: a handler may have changed the last one.
	r := *d.record
	r.Value = slices.Clone(r.Value)
	msg, err := decode(&r)
	if err != nil { // the official marshaler has no errors; it might some day
		msg = message.NewMessage("", r.Value)
	}
	d.Attempt = d.attempts
	d.ctx = adapters.NewDeliveryContext(d.partition.ctx, &d.Delivery, d)
	msg.SetContext(d.ctx)
	d.msg = msg
	return msg
}

// Acked implements flow.Delivery.
func (d *delivery) Acked() {
	d.leave()
	if d.committing.Load() {
		return
	}
	d.ctx.End(nil)
	d.settle()
}

// settle ends the offset of a delivery that no transaction covers: a duplicate, or
// a message of a group without the strategy.
func (d *delivery) settle() {
	d.partition.progress.set(d.record.Offset, settled)
	d.partition.consumer.offsets.Store(true)
	signal(d.partition.changed)
	d.inactive()
}

// Nacked implements flow.Delivery: the message is handed out again from memory.
func (d *delivery) Nacked() (time.Duration, bool) {
	d.leave()
	d.ctx.End(nil)
	c := d.partition.consumer
	switch {
	case d.committing.Load():
		// It is committed, and somebody outside of the strategy was not
		// content with that: there is nothing left to hand out.
		return 0, false
	case !d.partition.mayStay(d.record.Offset):
		d.inactive()
		return 0, false // another member gets it
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
	d.partition.postpone(d.record.Offset, after)
	return after, true
}

// Lost implements flow.Losable.
func (d *delivery) Lost() <-chan struct{} { return d.partition.ctx.Done() }

// Abandoned implements flow.Delivery. Its offset stays uncommitted.
func (d *delivery) Abandoned() {
	if d.stage.Swap(abandoned) == sent {
		d.partition.exit()
	}
	if d.ctx != nil && !d.committing.Load() {
		d.ctx.End(errDraining)
	}
	d.inactive()
}

// leave counts the message as no longer being handled.
func (d *delivery) leave() {
	if d.stage.CompareAndSwap(sent, waiting) {
		d.partition.exit()
	}
}

// inactive counts the delivery as one that no transaction need wait for.
func (d *delivery) inactive() {
	if d.counted.CompareAndSwap(true, false) {
		d.partition.consumer.active.Add(-1)
		d.partition.consumer.nudge()
	}
}

var (
	errDraining  = errors.New("subscription was closed before the message was done")
	errRevoked   = fmt.Errorf("the partition went to another member of the group: %w", dedup.ErrLeaseLost)
	errRefused   = fmt.Errorf("the group has a new owner for the partition: %w", dedup.ErrLeaseLost)
	errNotOurs   = errors.New("the message did not come from a subscriber of this broker, or its context was replaced")
	errLogBroken = errors.New("processed IDs could not be restored")
)

// deliveryFrom returns the delivery that a message's context belongs to; nil when it
// is not of this broker.
func deliveryFrom(ctx context.Context) *delivery { return adapters.OwnDelivery[*delivery](ctx) }
