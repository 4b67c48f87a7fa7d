package sqlite

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/flow"
	"github.com/hapax-go/hapax/outbox/inbox"
)

// consumer is one call of Subscribe: a member of the group that claims messages
// and hands them out.
type consumer struct {
	broker       *Broker
	subscription adapters.Subscription
	topic        string
	group, high  int64 // the group's ID; the highest position of the topic
	values       context.Context
	flow         *flow.Flow

	current atomic.Pointer[membership]
	waiting atomic.Bool   // the group has free rows that could not be adopted
	wake    chan struct{} // look at the file
	slots   chan struct{} // a delivery has ended
	doubt   chan struct{} // the lease may be lost

	claiming sync.WaitGroup
	beating  sync.WaitGroup
	settled  sync.WaitGroup // acks and burials on their way
	stop     func()
	closing  chan struct{}   // closed by stop: claim no more
	present  context.Context // ends when it has left the group
	depart   func()

	mu        sync.Mutex
	postponed map[claimed]time.Time
}

const (
	// batch is the most messages claimed at once.
	batch = 256
	// gather is how long a nearly full window waits for more slots, so that it
	// is not refilled one message, and one commit, at a time.
	gather = 2 * time.Millisecond
	// parting is how long a consumer that has drained tries to write what is left to
	// write. Another process may hold the file, or the disk be full, for ever; but one of
	// many on a busy file may have to wait its turn for long, too.
	parting = time.Minute
)

func (b *Broker) newConsumer(ctx context.Context, topic string, subscription adapters.Subscription) (*consumer, error) {
	ids, err := b.joinGroup(ctx, topic, subscription.Group)
	if err != nil {
		return nil, err
	}
	c := &consumer{
		broker: b, subscription: subscription, topic: topic, group: ids[1], values: context.WithoutCancel(ctx),
		wake: make(chan struct{}, 1), slots: make(chan struct{}, 1), doubt: make(chan struct{}, 1),
		closing:   make(chan struct{}),
		postponed: map[claimed]time.Time{},
	}
	c.present, c.depart = context.WithCancel(b.ctx)
	_, c.high = span(ids[0])
	c.stop = sync.OnceFunc(func() { close(c.closing) })
	member, err := c.join(ctx, ctx, nil)
	if err != nil {
		c.depart()
		return nil, err
	}
	c.current.Store(member)
	c.flow = flow.New(flow.Config{Window: subscription.Window, Freed: c.freed})
	b.watching.Do(b.startWatch)
	b.wakes.add(c)
	c.claiming.Go(c.claim)
	c.beating.Go(c.beat)
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
	return (c.subscription.MaxDeliveries + 1) / 2
}

func (c *consumer) suspect(attempts int) bool { return attempts >= c.suspicion() }

// freed is told by the flow when the window has room again. A delivery's end would
// be too early: whoever is woken by that may find the window still full, and nobody
// wakes it again.
func (c *consumer) freed() { signal(c.slots) }

// claim keeps the window filled, until stop.
func (c *consumer) claim() {
	ctx, cancel := context.WithCancel(c.broker.ctx)
	c.claiming.Go(func() {
		<-c.closing
		cancel()
	})

	// Dead members are noticed by looking: nobody signals a death.
	glance := min(max(c.broker.config.LeaseDuration/4, 20*time.Millisecond), time.Second)
	for pause := time.Duration(0); ; {
		more, err := c.fill(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			pause = min(max(2*pause, 10*time.Millisecond), time.Second)
			c.broker.config.Logger.Warn("claim messages: trying again", "topic", c.topic, "group", c.subscription.Group, "error", err)
		case more:
			pause = 0
			continue
		default:
			pause = glance
		}
		timer := time.NewTimer(pause)
		select {
		case <-c.wake:
		case <-timer.C:
		case <-c.closing:
		}
		timer.Stop()
	}
}

// room waits until enough of the window is free to be worth a claim.
func (c *consumer) room(ctx context.Context) int {
	worth := min(batch, max(1, c.subscription.Window/4))
	var late <-chan time.Time
	for {
		room := c.flow.Room()
		if room >= worth {
			return min(room, batch)
		}
		if room > 0 && late == nil {
			timer := time.NewTimer(gather)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-c.slots:
		case <-late:
			return c.flow.Room()
		case <-ctx.Done():
			return 0
		}
	}
}

// fill claims once, and offers what was claimed to the flow.
func (c *consumer) fill(ctx context.Context) (more bool, err error) {
	room := c.room(ctx)
	if room == 0 {
		return false, nil
	}
	m, err := c.member(ctx)
	if err != nil {
		return false, err
	}
	f := &fetch{member: m, room: room}
	if f.view, err = c.broker.reads.look(ctx, m, time.Now()); err != nil {
		return false, fmt.Errorf("look at group: %w", err)
	}
	c.waiting.Store(f.view.free)
	if !f.view.full {
		records, err := c.broker.reads.messages(ctx, f.view.cursor, c.high, room)
		if err != nil {
			return false, fmt.Errorf("read messages: %w", err)
		}
		f.queue = m.deliveries(records)
	}
	if !f.view.ready && !f.view.dead && len(f.queue) == 0 {
		return false, nil // nothing to claim, and no lock was taken to find out
	}
	if err := c.broker.fetches.Do(ctx, f); err != nil {
		if errors.Is(err, inbox.ErrCommitUnknown) {
			// The rows may be claimed in this member's name without anybody
			// knowing. Leave it, so that they are freed.
			m.cancel(errLeaseLost)
		}
		return false, err
	}
	if f.lost {
		m.cancel(errLeaseLost)
		return true, nil
	}
	if f.mailed {
		c.broker.wakes.topic(c.topic)
	}
	if f.reaped > 0 {
		c.broker.config.Logger.Info("took over from dead consumers", "topic", c.topic, "group", c.subscription.Group, "messages", f.reaped)
	}
	if err := c.offer(ctx, f); err != nil {
		return false, err
	}
	return f.more, nil
}

// offer gives claimed messages to the flow. Offers that the flow refuses, because
// it drains, stay claimed until this member leaves in a moment.
func (c *consumer) offer(ctx context.Context, f *fetch) error {
	if err := c.load(f.adopted); err != nil {
		// They are this member's now, and nobody would hand them out.
		f.member.cancel(errLeaseLost)
		return err
	}
	for _, d := range append(f.adopted, f.claims...) {
		switch {
		case d.Position == "":
			// Its message is gone from the table: retention never does that.
			c.broker.config.Logger.Error("a claimed message is missing from the file", "position", place(c.topic, d.row.position))
			c.ack(d.row)
		case c.exhausted(d.attempts - 1):
			c.bury(d, fmt.Sprintf("handed out %d times and never acknowledged", d.attempts-1))
		default:
			if err := c.flow.Offer(ctx, d); err != nil {
				return nil //nolint:nilerr // closing
			}
		}
	}
	return nil
}

// load reads the messages of adopted rows.
func (c *consumer) load(adopted []*delivery) error {
	if len(adopted) == 0 {
		return nil
	}
	positions := make([]int64, len(adopted))
	for i, d := range adopted {
		positions[i] = d.row.position
	}
	records, err := c.broker.reads.records(c.broker.ctx, positions)
	if err != nil {
		return fmt.Errorf("read messages taken over: %w", err)
	}
	for _, d := range adopted {
		if record, found := records[d.row.position]; found {
			d.fill(record)
		}
	}
	return nil
}

// member returns the membership, joining anew after the last one was lost. The
// deliveries of the lost one end by themselves: their contexts are cancelled,
// their commits find no row, and the flow hands none of them out again.
func (c *consumer) member(ctx context.Context) (*membership, error) {
	m := c.current.Load()
	if !m.lost() {
		return m, nil
	}
	c.broker.config.Logger.Warn("consumer lost its lease and joins anew", "topic", c.topic, "group", c.subscription.Group, "lease", c.broker.config.LeaseDuration)
	joined, err := c.join(ctx, c.values, m)
	if err == nil {
		c.current.Store(joined)
		m = joined
	}
	return m, err
}

// beat renews the lease, also while the window is full and while draining.
func (c *consumer) beat() {
	ticker := time.NewTicker(c.broker.config.HeartbeatInterval)
	defer ticker.Stop()
	for {
		select {
		case <-c.present.Done():
			return
		case <-ticker.C:
		case <-c.doubt:
		}
		m := c.current.Load()
		if m.lost() {
			signal(c.wake)
			continue
		}
		if err := m.heartbeat(c.present); err != nil && c.present.Err() == nil {
			c.broker.config.Logger.Warn("renew consumer lease", "topic", c.topic, "group", c.subscription.Group, "error", err)
		}
	}
}
