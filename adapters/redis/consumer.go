package redis

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/flow"
	"github.com/hapax-go/hapax/dedup"
)

// consumer is one call of Subscribe: a member of the group that reads entries and
// hands them out.
type consumer struct {
	broker       *Broker
	subscription adapters.Subscription
	topic        string
	keys         keys
	leases       string // the prefix of pessimistic claims
	values       context.Context
	flow         *flow.Flow

	current atomic.Pointer[membership]
	slots   chan struct{} // the window has room again
	doubt   chan struct{} // the lease may be lost

	reading sync.WaitGroup
	beating sync.WaitGroup
	settled sync.WaitGroup // acknowledgements and burials on their way
	// hopeless: they are not tried again.
	hopeless atomic.Bool
	stop     func()
	closing  chan struct{} // closed by stop: read no more
	left     chan struct{} // closed when it has left the group
}

const (
	// readBatch is the most entries read at once.
	readBatch = 256
	// gather is how long a nearly full window waits for more slots, so that it
	// is not refilled one entry, and one round trip, at a time.
	gather = 2 * time.Millisecond
)

func (b *Broker) newConsumer(ctx context.Context, topic string, subscription adapters.Subscription) (*consumer, error) {
	if err := b.createGroup(ctx, topic, subscription.Group); err != nil {
		return nil, err
	}
	c := &consumer{
		broker: b, subscription: subscription, topic: topic, keys: b.keys(topic, subscription.Group), leases: b.leasesPrefix(topic),
		values: context.WithoutCancel(ctx),
		slots:  make(chan struct{}, 1), doubt: make(chan struct{}, 1),
		closing: make(chan struct{}), left: make(chan struct{}),
	}
	c.stop = sync.OnceFunc(func() { close(c.closing) })
	member, err := c.join(ctx)
	if err != nil {
		return nil, err
	}
	c.current.Store(member)
	c.flow = flow.New(flow.Config{Window: subscription.Window, Freed: func() { signal(c.slots) }})
	c.reading.Go(c.read)
	c.beating.Go(c.heartbeat)
	c.beating.Go(c.maintain)
	return c, nil
}

// exhausted reports whether a message was handed out as often as is allowed.
func (c *consumer) exhausted(attempts int) bool {
	return c.subscription.MaxDeliveries > 0 && attempts >= c.subscription.MaxDeliveries
}

// suspicion is the number of attempts from which a message is handled with care.
func (c *consumer) suspicion() int {
	if c.subscription.MaxDeliveries < 0 {
		return 1 << 30
	}
	return max((c.subscription.MaxDeliveries+1)/2, 2)
}

// room waits until enough of the window is free to be worth a round trip. It returns
// 0 after patience, if that is not zero, or when ctx ends.
func (c *consumer) room(ctx context.Context, patience time.Duration) int {
	worth := min(readBatch, max(1, c.subscription.Window/4))
	var late, over <-chan time.Time
	for {
		room := c.flow.Room()
		if room >= worth {
			return min(room, readBatch)
		}
		if room > 0 && late == nil {
			timer := time.NewTimer(gather)
			defer timer.Stop()
			late = timer.C
		}
		if patience > 0 && over == nil {
			timer := time.NewTimer(patience)
			defer timer.Stop()
			over = timer.C
		}
		select {
		case <-c.slots:
		case <-late:
			if room := c.flow.Room(); room > 0 {
				return room
			}
			late = nil
		case <-over:
			return c.flow.Room()
		case <-ctx.Done():
			return 0
		}
	}
}

// deliver makes a delivery of an entry.
func (m *membership) deliver(entry redis.XMessage, attempts int) *delivery {
	d := &delivery{member: m, entry: entry.ID, fields: entry.Values, token: dedup.NextToken(), attempts: attempts, adopted: attempts, since: time.Now()}
	d.Position = m.consumer.topic + "@" + entry.ID
	d.first = decode(entry.Values)
	d.lane = m.consumer.lane(d.first)
	return d
}

// member returns the membership, joining anew after the last one was lost. The
// deliveries of the lost one end by themselves: their contexts are cancelled,
// their commits are refused, and the flow hands none of them out again.
func (c *consumer) member(ctx context.Context) (*membership, error) {
	m := c.current.Load()
	if !m.lost() {
		return m, nil
	}
	c.broker.config.Logger.Warn("consumer lost its lease and joins anew", "topic", c.topic, "group", c.subscription.Group, "lease", c.broker.config.Lease)
	joined, err := c.join(ctx)
	if err == nil {
		c.current.Store(joined)
		m = joined
	}
	return m, err
}

// heartbeat renews the lease, also while the window is full and while draining.
func (c *consumer) heartbeat() {
	ticker := time.NewTicker(c.broker.config.HeartbeatInterval)
	defer ticker.Stop()
	for {
		select {
		case <-c.left:
			return
		case <-ticker.C:
		case <-c.doubt:
		}
		m := c.current.Load()
		if m.lost() || c.broker.frozen.Load() {
			continue
		}
		slow := m.slow(c.broker.config.HeartbeatInterval)
		ctx, cancel := context.WithTimeout(context.Background(), c.broker.config.HeartbeatInterval)
		gone, err := m.beat(ctx, false, slow)
		cancel()
		switch {
		case errors.Is(err, dedup.ErrLeaseLost):
			m.cancel(errLeaseLost)
		case err != nil:
			c.broker.config.Logger.Warn("renew consumer lease", "topic", c.topic, "group", c.subscription.Group, "error", err)
		default:
			m.renewed(slow, gone)
		}
	}
}
