package redis

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
)

// ack acknowledges an entry, together with others. It is tried until it works: an
// entry left behind would be handed out again after a restart.
func (c *consumer) ack(d *delivery) {
	if failpoint.Hit(failpoint.BeforeAck) != nil {
		d.done()
		return
	}
	c.settled.Add(1)
	c.submit(d, &unit{entries: []entry{d.own()}}, 10*time.Millisecond)
}

// submit tries a unit until it is decided: committed, or not this member's to
// commit. The delivery is held meanwhile, so that its entry does not grow idle.
func (c *consumer) submit(d *delivery, u *unit, pause time.Duration) {
	u.done = func(err error) {
		if err == nil || errors.Is(err, dedup.ErrLeaseLost) || d.member.lost() || c.hopeless.Load() {
			if err == nil {
				_ = failpoint.Hit(failpoint.AfterAck)
			}
			d.done()
			c.settled.Done()
			return
		}
		c.broker.config.Logger.Warn("acknowledge: trying again", "position", d.Position, "error", err)
		time.AfterFunc(pause, func() { c.submit(d, u, min(2*pause, time.Second)) })
	}
	d.member.units.add(u)
}

// bury moves a message to the dead-letter topic.
func (c *consumer) bury(d *delivery, reason string) {
	letter := decode(d.fields)
	maps.Copy(letter.Metadata, message.Metadata{
		dedup.MetaDeadReason: reason, dedup.MetaDeadTopic: c.topic, dedup.MetaDeadAttempts: strconv.Itoa(d.attempts), dedup.MetaDeadPosition: d.Position,
		dedup.MetaDeadGroup: c.subscription.Group,
	})
	c.broker.config.Logger.Error("message goes to the dead-letter topic", "topic", c.topic, "position", d.Position, "reason", reason)
	output, err := c.broker.encode(c.subscription.LetterTopic(c.topic), letter, time.Now())
	if err != nil { // too large for today's limit, say; it stays pending, visibly
		c.broker.config.Logger.Error("dead-letter message: it stays pending", "position", d.Position, "error", err)
		d.done()
		return
	}
	d.repay()
	c.settled.Add(1)
	c.submit(d, &unit{entries: []entry{d.own()}, outputs: []encoded{output}}, 10*time.Millisecond)
}

// close drains the flow and leaves the group. What was handed out may finish; the
// rest is left to other members. Killed anywhere in here: the lease runs out.
func (c *consumer) close() (failure error) {
	c.stop()
	c.reading.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), c.subscription.DrainTimeout)
	defer cancel()
	if err := c.flow.Drain(ctx); err != nil {
		c.broker.config.Logger.Warn("drain subscription: other members take over the rest", "topic", c.topic, "group", c.subscription.Group, "error", err)
	}
	m := c.current.Load()
	m.cancel(errDraining)
	leaving, cancelLeaving := context.WithTimeout(context.Background(), c.broker.config.Timeout)
	defer cancelLeaving()
	// The server may be away for good. What is not acknowledged by then comes again.
	impatient := context.AfterFunc(leaving, func() { c.hopeless.Store(true) })
	c.settled.Wait()
	impatient()
	if !c.broker.frozen.Load() {
		failure = m.leave(leaving)
	}
	close(c.left)
	c.beating.Wait()
	return failure
}
