package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/flow"
)

// consumer is one call of Subscribe. It outlives connections: what is bound to
// one is a session.
type consumer struct {
	broker       *Broker
	subscription adapters.Subscription
	topic        string
	values       context.Context
	flow         *flow.Flow

	running sync.WaitGroup
	burying sync.WaitGroup
	stop    func()
	closing chan struct{} // closed by stop: receive no more
	gone    chan struct{} // closed when everything is over
	failure error         // of leaving; read after gone
	session *session      // the last one; read after running
}

var (
	errDraining = errors.New("subscription was closed before the message was done")
	errLost     = errors.New("the connection to rabbitmq was lost: the message is somebody else's by now")
)

func (b *Broker) newConsumer(ctx context.Context, topic string, subscription adapters.Subscription) (*consumer, error) {
	c := &consumer{
		broker: b, subscription: subscription, topic: topic, values: context.WithoutCancel(ctx),
		closing: make(chan struct{}), gone: make(chan struct{}),
	}
	c.stop = sync.OnceFunc(func() { close(c.closing) })
	// A lost connection is made anew at once: it may have been lost just now,
	// without anybody having noticed.
	session, err := c.open(ctx, false)
	if err != nil && ctx.Err() == nil && !isRefusal(err) {
		session, err = c.open(ctx, false)
	}
	if err != nil {
		return nil, err
	}
	c.flow = flow.New(flow.Config{Window: subscription.Window})
	c.running.Go(func() { c.run(session) })
	return c, nil
}

// run receives, over one session after the other, until stop.
func (c *consumer) run(s *session) {
	ctx, cancel := context.WithCancel(c.broker.ctx)
	defer cancel()
	c.running.Go(func() {
		select {
		case <-c.closing:
			cancel()
		case <-ctx.Done():
		}
	})
	for {
		c.session = s
		turn := s.receive(ctx)
		if turn {
			c.settle(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		log := c.broker.config.Logger.With("topic", c.topic, "group", c.subscription.Group)
		careful := s.careful != turn
		if turn {
			log.Info("rabbitmq consumer changes its prefetch, because of messages that came back often", "one_at_a_time", careful)
		} else {
			log.Warn("rabbitmq consumer lost its channel and opens another", "reason", s.reason())
		}
		_ = s.end(errLost)
		if s = c.reopen(ctx, careful); s == nil {
			return
		}
	}
}

// settle waits, for a time, until nothing is in flight, so that the channel can be
// closed and nobody loses their work.
func (c *consumer) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for c.flow.Room() < c.subscription.Window {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}

const settleTimeout = 5 * time.Second

// reopen tries until it has a session; nil when ctx has ended.
func (c *consumer) reopen(ctx context.Context, careful bool) *session {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = 20*time.Millisecond, 2*time.Second
	for {
		s, err := c.open(ctx, careful)
		if err == nil {
			return s
		}
		if ctx.Err() != nil {
			return nil
		}
		c.broker.config.Logger.Warn("open rabbitmq consumer: trying again", "topic", c.topic, "group", c.subscription.Group, "error", err)
		select {
		case <-time.After(pauses.NextBackOff()):
		case <-ctx.Done():
			return nil
		}
	}
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

// close drains. The channel is closed last: only then does the server give what
// is not acknowledged to others, and until then messages of a single active
// consumer wait for those before them.
func (c *consumer) close() {
	c.stop()
	c.running.Wait()
	s := c.session
	if !c.single() {
		s.cancelConsume()
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.subscription.DrainTimeout)
	defer cancel()
	if err := c.flow.Drain(ctx); err != nil {
		c.broker.config.Logger.Warn("drain subscription: other members take over the rest", "topic", c.topic, "group", c.subscription.Group, "error", err)
	}
	c.burying.Wait()
	if err := s.end(errDraining); err != nil {
		c.failure = fmt.Errorf("close consumer of %q: %w", c.topic, err)
	}
}

func (c *consumer) single() bool { return c.broker.single(c.subscription) }

// single reports whether the group has one active member at a time.
func (b *Broker) single(subscription adapters.Subscription) bool {
	return subscription.Ordering == adapters.OrderByPartition ||
		b.config.SingleActiveConsumer && subscription.Ordering == adapters.OrderByKey
}
