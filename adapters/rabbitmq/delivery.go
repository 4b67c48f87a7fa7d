package rabbitmq

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
)

// delivery is one message on its way through the flow.
type delivery struct {
	adapters.Delivery

	session  *session
	received amqp.Delivery
	lane     string
	first    *message.Message // of received; for the first handing-out
	attempts int              // handed out so often, this time included
	// receivedAt is when the server began to count the consumer timeout.
	receivedAt time.Time
	due        time.Time // of one that was parked
	cancel     context.CancelCauseFunc
}

func (s *session) deliver(received amqp.Delivery) *delivery {
	before, due := parked(received.Headers)
	d := &delivery{due: due, session: s, received: received, attempts: before + s.consumer.broker.returned(&received) + 1, receivedAt: time.Now()}
	d.Position = s.name + "@" + strconv.FormatUint(received.DeliveryTag, 10)
	d.first = decode(&d.received)
	switch s.consumer.subscription.Ordering {
	case adapters.OrderByPartition:
		d.lane = s.queue // it is one partition
	case adapters.OrderByKey:
		d.lane = d.first.Metadata.Get(dedup.MetaKey)
	}
	return d
}

// Message implements flow.Delivery. The message's context ends when the work is
// no longer this consumer's: when it is acked or nacked, when the connection is
// lost, when draining takes too long.
func (d *delivery) Message() *message.Message {
	d.Attempt = d.attempts
	msg := d.first
	if d.first = nil; msg == nil {
		msg = decode(&d.received) // anew: a handler may have changed the last one
	}
	var ctx context.Context
	ctx, d.cancel = context.WithCancelCause(d.session.ctx)
	msg.SetContext(adapters.WithDelivery(ctx, &d.Delivery))
	return msg
}

// Lane implements flow.Delivery.
func (d *delivery) Lane() string { return d.lane }

// Acked implements flow.Delivery. Killed between the handler's Ack and the frame
// that tells the server: the message comes again, as it must.
func (d *delivery) Acked() {
	d.cancel(nil)
	defer d.session.open.Add(-1) // after the acknowledgement: whoever closes the channel waits for this
	if failpoint.Hit(failpoint.BeforeAck) == nil && !d.session.lost() {
		d.session.acks.finish(d.received.DeliveryTag)
	}
}

// Nacked implements flow.Delivery: the message is handed out again from memory.
// The server counts only what comes back to it, so a process that dies takes its
// own count along.
func (d *delivery) Nacked() (time.Duration, bool) {
	d.cancel(nil)
	c, counted := d.session.consumer, d.Counted(d.attempts)
	switch {
	case d.session.lost():
		d.session.open.Add(-1)
		return 0, false // it is another session's by now
	case c.exhausted(counted):
		c.bury(d, d.attempts)
		d.session.open.Add(-1)
		return 0, false
	}
	after := d.Requested()
	if after <= 0 {
		after = max(c.subscription.RedeliveryDelay, 0)
	}
	if d.parks(after) {
		c.park(d, counted, time.Now().Add(after))
		d.session.open.Add(-1)
		return 0, false
	}
	d.RetryAfter(0)
	d.attempts++
	return after, true
}

// Lost implements flow.Losable.
func (d *delivery) Lost() <-chan struct{} { return d.session.ctx.Done() }

// Abandoned implements flow.Delivery. The message goes back with all others of
// the session, when it ends.
func (d *delivery) Abandoned() {
	d.session.open.Add(-1)
	if d.cancel != nil {
		d.cancel(errDraining)
	}
}

// bury moves a message to the dead-letter topic, and acknowledges it when it is
// there. It is tried until the session ends; then the next one buries it.
func (c *consumer) bury(d *delivery, attempts int) {
	reason := fmt.Sprintf("handed out %d times and never acknowledged", attempts)
	letter := decode(&d.received)
	adapters.KeepBrokerID(letter)
	maps.Copy(letter.Metadata, message.Metadata{
		dedup.MetaDeadReason: reason, dedup.MetaDeadTopic: c.topic,
		dedup.MetaDeadAttempts: strconv.Itoa(attempts), dedup.MetaDeadPosition: d.Position,
		dedup.MetaDeadGroup: c.subscription.Group,
	})
	log := c.broker.config.Logger.With("topic", c.topic, "position", d.Position)
	log.Error("message goes to the dead-letter topic", "reason", reason)
	to := c.subscription.LetterTopic(c.topic)
	d.session.open.Add(1) // or it comes again although its letter is there
	c.burying.Go(func() {
		defer d.session.open.Add(-1)
		for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
			err := c.broker.Publisher().Publish(to, letter)
			if err == nil {
				d.session.acks.finish(d.received.DeliveryTag)
				return
			}
			log.Error("dead-letter message: trying again", "to", to, "error", err)
			select {
			case <-time.After(pause):
			case <-c.closing:
				return
			case <-d.session.ctx.Done():
				return
			}
		}
	})
}
