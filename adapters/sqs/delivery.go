package sqs

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

var (
	errDraining  = errors.New("the subscription was closed before the handler was done")
	errInvisible = errors.New("the message's visibility timeout has run out: another consumer may have it")
	errCeiling   = errors.New("the message was held for 12 hours, which is all that SQS allows: let the handler hand the work over and return")
)

// delivery is a received message on its way through the flow.
type delivery struct {
	adapters.Delivery

	consumer *consumer
	raw      types.Message
	first    *message.Message // of raw; for the first handing-out
	id       string           // SQS's message ID
	// group is the FIFO group that the message has a turn in; "" if none.
	group    string
	attempts int       // received or handed out so often, this time included
	waited   int       // of attempts: receives that do not count, because it waited for its turn
	since    time.Time // when it was received
	retryAt  time.Time // set by Nacked; read by Abandoned, which follows it
	cancel   context.CancelCauseFunc

	mu       sync.Mutex
	handle   string        // of the latest receipt
	extended time.Time     // when its visibility was last set
	until    time.Time     // when its visibility runs out
	lost     error         // why the message is not this consumer's any more
	gone     chan struct{} // closed when it is lost
	ended    bool          // it is being deleted, given back or buried
	// returning: it is being given back, to be visible after a while.
	returning bool
	back      time.Duration
	beating   bool // a heartbeat of it is on its way
}

// Message implements flow.Delivery.
func (d *delivery) Message() *message.Message {
	d.Attempt = d.attempts
	msg := d.first
	if d.first = nil; msg == nil {
		msg, _ = decode(&d.raw) // anew: a handler may have changed the last one
	}
	ctx, cancel := context.WithCancelCause(d.consumer.values)
	d.mu.Lock()
	d.cancel = cancel
	lost := d.lost
	d.mu.Unlock()
	if lost != nil {
		cancel(lost)
	}
	msg.SetContext(adapters.WithDelivery(ctx, &d.Delivery))
	return msg
}

// Lane implements flow.Delivery. Groups of FIFO queues have their turns by
// themselves: theirs end with the delete, which the flow does not see.
func (d *delivery) Lane() string {
	c := d.consumer
	switch {
	case d.group != "" || c.subscription.Ordering == adapters.Unordered:
		return ""
	case c.subscription.Ordering == adapters.OrderByPartition:
		return c.queue.name
	}
	return d.first.Metadata.Get(dedup.MetaKey)
}

// Acked implements flow.Delivery.
func (d *delivery) Acked() {
	d.cancel(nil)
	d.remove()
}

// Nacked implements flow.Delivery: the message is handed out again from memory, and
// stays hidden from others, so that its group stays locked. A standard queue, which has
// no groups, takes back what is to wait for long, instead of it filling the window.
func (d *delivery) Nacked() (time.Duration, bool) {
	d.cancel(nil)
	c, counted := d.consumer, d.Counted(d.attempts)-d.waited
	switch {
	case d.isLost() != nil:
		c.release(d, true)
		return 0, false
	case c.exhausted(counted):
		d.bury(d.attempts - d.waited)
		return 0, false
	}
	after := d.Requested()
	if after <= 0 {
		after = max(c.subscription.RedeliveryDelay, 0)
	}
	d.RetryAfter(0)
	// But not one that was excused: SQS counts receives, and those of an outage add up.
	if !c.queue.fifo && counted == d.attempts && after > c.broker.config.VisibilityTimeout {
		d.giveBack(after)
		return 0, false
	}
	d.retryAt = time.Now().Add(after)
	d.attempts++
	return after, true
}

// Abandoned implements flow.Delivery: the message is given back, to be visible when
// its redelivery is due.
func (d *delivery) Abandoned() {
	if d.cancel != nil {
		d.cancel(errDraining)
	}
	d.giveBack(max(time.Until(d.retryAt), 0))
}

// Lost implements flow.Losable.
func (d *delivery) Lost() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gone
}

func (d *delivery) isLost() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost
}

// lose ends the handler's context: the message is not this consumer's any more.
func (d *delivery) lose(cause error) {
	d.mu.Lock()
	first := d.lost == nil && !d.ended
	if d.lost == nil {
		d.lost = cause
		close(d.gone)
	}
	cancel := d.cancel
	d.mu.Unlock()
	if !first {
		return
	}
	d.consumer.broker.config.Logger.Warn("message lost while it was held", "position", d.Position, "error", cause)
	if cancel != nil {
		cancel(cause)
	}
}

func (d *delivery) receipt() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.handle
}

// refresh takes the receipt of the same message, received again: a standard queue
// may deliver a message twice, and a receive that is repeated after a network error
// brings the same ones. The newer receipt is the one that counts. It reports true
// when the message was being given back: then this is its next delivery.
func (d *delivery) refresh(again *delivery) (next bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.returning {
		return true
	}
	d.handle, d.until, d.extended = again.handle, again.until, again.extended
	if d.lost != nil { // it was, and is held again
		d.lost, d.gone = nil, make(chan struct{})
	}
	return false
}

// end marks that the delivery is being settled; false when it already is.
func (d *delivery) end() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	first := !d.ended
	d.ended = true
	return first
}
