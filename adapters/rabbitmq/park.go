package rabbitmq

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A message whose next attempt is far away does not wait in the consumer: it would
// fill the prefetch window, be lost with the process (and count as returned), and
// outlast the server's consumer timeout. It is parked in a queue from which nobody
// consumes and which hands everything back when it is so old:
//
//	queue "orders_group" ──nacked, again in 40s──► queue "orders%delay-1m0s_group"
//	        ▲                                        (x-message-ttl 60000)
//	        └──────── dead-lettered when it is over ────────┘
//
// What is behind a parked message overtakes it, so those with a key are parked
// only when there is no other way.

// rungs are the delays there are queues for. One queue for all would not do: a
// message is only looked at when it is the first, and a long delay would hold up the
// short ones behind it.
var rungs = []time.Duration{
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 20 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

// rung is the shortest delay that is not too short; of what is longer than all,
// the longest, to be parked again.
func rung(delay time.Duration) time.Duration {
	for _, rung := range rungs {
		if rung >= delay {
			return rung
		}
	}
	return rungs[len(rungs)-1]
}

// Headers of parked messages.
const (
	headerAttempts = "x-hapax-attempts" // handed out so often before it was parked
	headerDue      = "x-hapax-due"      // not to be handed out before, in Unix milliseconds
	headerTopic    = "x-hapax-topic"    // whose queue it comes back to
)

// parks decides whether a message waits for its next attempt on the server.
func (d *delivery) parks(after time.Duration) bool {
	config := &d.session.consumer.broker.config
	switch {
	case time.Since(d.receivedAt)+after > config.ConsumerTimeout/2:
		// The server will soon take it for forgotten, and close the channel under
		// everything else.
		return true
	case d.lane != "":
		return false
	}
	return config.ParkAfter > 0 && after >= config.ParkAfter
}

// park publishes a message to the queue of a delay and acknowledges it when it is
// there. It is tried until the session ends; then the server hands it out anew, too
// early.
func (c *consumer) park(d *delivery, attempts int, due time.Time) {
	d.session.open.Add(1) // or it comes again although it is parked
	c.burying.Go(func() {
		defer d.session.open.Add(-1)
		delay := rung(time.Until(due))
		for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
			err := c.broker.publishParked(d, delay, attempts, due)
			if err == nil {
				d.session.acks.finish(d.received.DeliveryTag)
				return
			}
			c.broker.config.Logger.Error("park message for its next attempt: trying again", "topic", c.topic, "position", d.Position, "error", err)
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

// publishParked stores a copy of the delivery as it came, with what the next
// consumer must know.
func (b *Broker) publishParked(d *delivery, delay time.Duration, attempts int, due time.Time) error {
	queue, err := b.delayQueue(d.session.reader, delay)
	if err != nil {
		return err
	}
	received := &d.received
	headers := maps.Clone(received.Headers)
	if headers == nil {
		headers = amqp.Table{}
	}
	for _, set := range []string{headerDeath, headerDeliveryCount, headerFirstDeath + "exchange", headerFirstDeath + "queue", headerFirstDeath + "reason"} {
		delete(headers, set)
	}
	dropCopies(headers)
	headers[headerAttempts], headers[headerDue] = int64(attempts), due.UnixMilli()
	headers[headerTopic] = d.session.consumer.topic
	err = b.publish("", []posting{{queue, amqp.Publishing{
		Headers: headers, Body: received.Body, DeliveryMode: amqp.Persistent,
		ContentType: received.ContentType, ContentEncoding: received.ContentEncoding, Priority: received.Priority,
		MessageId: received.MessageId, Timestamp: received.Timestamp, Type: received.Type, AppId: received.AppId, ReplyTo: received.ReplyTo,
	}}})
	if errors.Is(err, ErrUnroutable) { // somebody has deleted it
		b.delays.Delete(queue)
	}
	return err
}

// delayQueue declares the queue of a delay, unless that was done before.
func (b *Broker) delayQueue(r *reader, delay time.Duration) (string, error) {
	name, err := queueVariant(r.consumer.topic, fmt.Sprintf("%%delay-%s%s", delay, r.suffix), r.consumer.subscription.Group)
	if err != nil {
		return "", err
	}
	if _, declared := b.delays.Load(name); declared {
		return name, nil
	}
	ctx, cancel := b.until(time.Now().Add(b.config.PublishTimeout))
	defer cancel()
	err = b.ask(ctx, b.nextSlot(), func(conn *amqp.Connection) error { return b.declareDelay(conn, name, r.queue, delay) })
	if err != nil {
		return "", err
	}
	b.delays.Store(name, struct{}{})
	return name, nil
}

// declareDelay declares a queue that hands its messages back to another when they are so old.
func (b *Broker) declareDelay(conn *amqp.Connection, name, back string, delay time.Duration) error {
	arguments := amqp.Table{
		amqp.QueueTypeArg: string(b.config.QueueType), "x-message-ttl": delay.Milliseconds(),
		"x-dead-letter-exchange": "", "x-dead-letter-routing-key": back,
	}
	if b.config.QueueType == Quorum && serverVersion(conn).atLeast(3, 10) {
		arguments["x-dead-letter-strategy"], arguments["x-overflow"] = "at-least-once", "reject-publish"
	}
	return b.declareQueue(conn, name, arguments)
}

// parked is what a message's headers say of the attempts before it was parked, and
// when it is due.
func parked(headers amqp.Table) (attempts int, due time.Time) {
	if !fromDelay(headers) {
		return 0, time.Time{}
	}
	count, _ := headers[headerAttempts].(int64)
	if millis, found := headers[headerDue].(int64); found {
		due = time.UnixMilli(millis)
	}
	return int(count), due
}

// fromDelay reports that a message's last death was the end of a delay. The headers alone
// do not tell: they stay when the server dead-letters the message after that.
func fromDelay(headers amqp.Table) bool {
	_, parked := headers[headerAttempts]
	queue, _ := lastDeath(headers)["queue"].(string)
	return parked && strings.Contains(queue, "%delay-")
}
