package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/flow"
)

// consumer is one call of Subscribe: a flow, and the readers that fill it. There is
// one reader, of the group's queue, or one for each partition that this member has
// at the time.
type consumer struct {
	broker       *Broker
	subscription adapters.Subscription
	topic        string
	values       context.Context
	flow         *flow.Flow

	balancing sync.WaitGroup
	burying   sync.WaitGroup
	stop      func()
	closing   chan struct{} // closed by stop: receive no more

	// readers by partition; 0 is the only one without partitions. Written by the
	// balancer only, and read by close when that has ended.
	readers map[int]*reader
}

var (
	errDraining = errors.New("subscription was closed before the message was done")
	errLost     = errors.New("the connection to rabbitmq was lost: the message is somebody else's by now")
	errMoved    = errors.New("the partition went to another member of the group before the message was done")
)

func (b *Broker) newConsumer(ctx context.Context, topic string, subscription adapters.Subscription) (*consumer, error) {
	c := &consumer{
		broker: b, subscription: subscription, topic: topic, values: context.WithoutCancel(ctx),
		closing: make(chan struct{}), readers: map[int]*reader{},
	}
	c.stop = sync.OnceFunc(func() { close(c.closing) })
	begin := c.begin
	if b.partitions(subscription) > 0 {
		begin = c.beginPartitions
	}
	// A lost connection is made anew at once: it may have been lost just now,
	// without anybody having noticed.
	err := begin(ctx)
	if err != nil && ctx.Err() == nil && !isRefusal(err) {
		err = begin(ctx)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// begin reads the group's queue.
func (c *consumer) begin(ctx context.Context) error {
	queue, err := queueName(c.topic, c.subscription.Group)
	if err != nil {
		return err
	}
	r := c.newReader(queue, "", func(ctx context.Context) error {
		_, err := c.broker.declareGroup(ctx, c.topic, c.subscription)
		return err
	})
	s, err := r.open(ctx, false)
	if err != nil {
		return err
	}
	c.flow = flow.New(flow.Config{Window: c.subscription.Window})
	r.start(s)
	c.readers[0] = r
	return nil
}

// close drains. The channels are closed last: only then does the server give what
// is not acknowledged to others, and until then messages of a single active
// consumer wait for those before them.
func (c *consumer) close() (failure error) {
	c.stop()
	c.balancing.Wait()
	for _, r := range c.readers {
		r.halt()
		if !c.single() {
			r.session.cancelConsume()
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.subscription.DrainTimeout)
	defer cancel()
	if err := c.flow.Drain(ctx); err != nil {
		c.broker.config.Logger.Warn("drain subscription: other members take over the rest", "topic", c.topic, "group", c.subscription.Group, "error", err)
	}
	c.burying.Wait()
	for _, r := range c.readers {
		if err := r.session.end(errDraining); err != nil {
			failure = errors.Join(failure, fmt.Errorf("close consumer of %q: %w", r.queue, err))
		}
	}
	return failure
}

// exhausted reports whether a message was handed out as often as is allowed.
func (c *consumer) exhausted(attempts int) bool {
	return c.subscription.MaxDeliveries > 0 && attempts >= c.subscription.MaxDeliveries
}

// suspect reports whether a message came back so often that it may be what kills
// its consumers. The server counts a return for every message that a dying
// consumer held, those too that it had only been sent ahead. With a window of a
// thousand, one poisonous message would take the others with it to the dead-letter
// topic. So from half of the allowed deliveries on, one message at a time is asked
// for: the next death counts against the guilty one only. (To change over costs
// each message one more return, so a limit below 4 leaves no room for it.)
func (c *consumer) suspect(returned int) bool {
	return c.subscription.MaxDeliveries >= 4 && returned >= (c.subscription.MaxDeliveries+1)/2
}

func (c *consumer) single() bool {
	return c.broker.single(c.subscription) || c.broker.partitions(c.subscription) > 0
}

// single reports whether the group has one active member at a time.
func (b *Broker) single(subscription adapters.Subscription) bool {
	return subscription.Ordering == adapters.OrderByPartition ||
		b.config.SingleActiveConsumer && subscription.Ordering == adapters.OrderByKey
}

const settleTimeout = 5 * time.Second
