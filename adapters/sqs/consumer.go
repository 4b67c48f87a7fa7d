package sqs

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/flow"
)

// consumer is one call of Subscribe: it receives messages of a queue, hands them
// out, and keeps them hidden from others until they are deleted.
type consumer struct {
	broker       *Broker
	subscription adapters.Subscription
	queue        *queue
	values       context.Context
	flow         *flow.Flow

	// window has a slot for each message held, from before it is asked for.
	window *semaphore.Weighted
	// turns carries the messages whose turn in their group has come.
	turns chan *delivery

	receiving sync.WaitGroup
	handing   sync.WaitGroup
	beating   sync.WaitGroup
	ending    sync.WaitGroup  // deletes, returns and burials on their way
	running   context.Context // ends with stop: receive no more
	stop      func()
	cut       func()        // cuts off what is being received
	handedOut chan struct{} // closed when the flow takes no more
	drained   chan struct{} // closed when nothing is held

	mu     sync.Mutex
	held   map[string]*delivery   // by SQS's message ID
	groups map[string][]*delivery // FIFO: the messages behind the one whose turn it is
}

func (b *Broker) newConsumer(ctx context.Context, topic string, subscription adapters.Subscription) (*consumer, error) {
	q, err := b.queue(ctx, topic)
	if err != nil {
		return nil, err
	}
	if err := q.inspect(ctx, subscription.MaxDeliveries); err != nil {
		return nil, err
	}
	if err := b.join(topic, subscription.Group); err != nil {
		return nil, err
	}
	c := &consumer{
		broker: b, subscription: subscription, queue: q, values: context.WithoutCancel(ctx),
		flow:      flow.New(flow.Config{Window: subscription.Window}),
		window:    semaphore.NewWeighted(int64(subscription.Window)),
		turns:     make(chan *delivery, subscription.Window),
		handedOut: make(chan struct{}), drained: make(chan struct{}),
		held: map[string]*delivery{}, groups: map[string][]*delivery{},
	}
	polls, cut := context.WithCancel(b.ctx)
	c.cut = cut
	c.running, c.stop = context.WithCancel(polls)
	for range b.config.Workers {
		c.receiving.Go(func() { c.receive(polls) })
	}
	c.handing.Go(c.handOut)
	c.beating.Go(c.heartbeat)
	return c, nil
}

// close drains the flow and gives back what is left. Killed anywhere in here: the
// visibility of what it held runs out.
func (c *consumer) close() error {
	c.stop()
	ctx, cancel := context.WithTimeout(context.Background(), c.subscription.DrainTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, c.cut)()
	if err := c.flow.Drain(ctx); err != nil {
		c.broker.config.Logger.Warn("drain subscription: the rest is given back", "queue", c.queue.name, "error", err)
	}
	c.receiving.Wait()
	c.cut()
	close(c.handedOut)
	c.handing.Wait()
	c.ending.Wait()
	// What never had its turn.
	c.mu.Lock()
	left := make([]*delivery, 0, len(c.held))
	for _, d := range c.held {
		left = append(left, d)
	}
	clear(c.groups)
	c.mu.Unlock()
	for _, d := range left {
		d.giveBack(0)
	}
	c.ending.Wait()
	close(c.drained)
	c.beating.Wait()
	c.broker.leave(c.queue.topic)
	return nil // what could not be given back comes again
}

// handOut gives messages to the flow, whose turn has come. It is a goroutine of
// its own so that a reader who is slow does not hold up receives and deletes.
func (c *consumer) handOut() {
	for {
		select {
		case d := <-c.turns:
			if earlier := d.attempts - 1 - d.waited; c.exhausted(earlier) {
				d.bury(earlier)
				continue
			}
			// Refused only while draining: it is given back at the end.
			_ = c.flow.Offer(context.Background(), d)
		case <-c.handedOut:
			return
		}
	}
}

// exhausted reports whether a message was handed out as often as is allowed.
func (c *consumer) exhausted(attempts int) bool {
	return c.subscription.MaxDeliveries > 0 && attempts >= c.subscription.MaxDeliveries
}

// sequenced reports whether messages of a group wait for each other's deletes.
func (c *consumer) sequenced() bool {
	return c.queue.fifo && c.subscription.Ordering != adapters.Unordered
}

// take makes a delivery of a message, and hands it out when its turn has come. It
// reports false when the message is held already.
func (c *consumer) take(d *delivery) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.held[d.id]; known != nil && !known.refresh(d) {
		return false
	}
	c.held[d.id] = d
	if d.group != "" {
		behind, busy := c.groups[d.group]
		if busy {
			// It was so at earlier receives, for all that is known: what kills its
			// consumers would otherwise take its group with it to the dead-letter topic.
			d.waited = d.attempts - 1
			c.groups[d.group] = append(behind, d)
			return true
		}
		c.groups[d.group] = nil
	}
	c.turns <- d // has room for all that are held
	return true
}

// release forgets a message, and goes on with its group. When the message will
// come again (it was neither deleted nor processed), those behind it in its group
// have to come after it: they are given back too.
func (c *consumer) release(d *delivery, comesAgain bool) {
	c.mu.Lock()
	if c.held[d.id] == d {
		delete(c.held, d.id)
	}
	var behind []*delivery
	if d.group != "" {
		behind = c.groups[d.group]
		if comesAgain || len(behind) == 0 {
			delete(c.groups, d.group)
			for _, follower := range behind {
				follower.group = ""
			}
		} else {
			c.groups[d.group] = behind[1:]
			c.turns <- behind[0]
			behind = nil
		}
	}
	c.mu.Unlock()
	c.window.Release(1)
	for _, follower := range behind {
		follower.giveBack(0)
	}
}
