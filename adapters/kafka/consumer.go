package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/flow"
)

// consumer is one call of Subscribe: a member of the group.
type consumer struct {
	broker       *Broker
	subscription adapters.Subscription
	topic, name  string // logical, and Kafka's
	idLog        string
	topicID      kadm.TopicID // as the client knows it; of the goroutine that polls
	client       atomic.Pointer[membership]
	flow         *flow.Flow
	out          chan *message.Message
	values       context.Context // of Subscribe, never cancelled
	logger       *slog.Logger

	ctx     context.Context // of requests; ends when everything is over
	cancel  context.CancelFunc
	polling context.Context // ends when closing begins
	endPoll context.CancelFunc
	stop    func()
	closing chan struct{} // closed by stop
	cut     chan struct{} // closed when nobody reads any more
	polled  chan struct{} // closed when poll has ended

	woken atomic.Pointer[context.CancelFunc] // ends the poll of now
	anew  atomic.Bool                        // the next poll is to begin anew in the group

	joined     chan struct{} // closed at the first assignment
	rejected   chan error    // why the group does not take this member in
	joinedOnce sync.Once
	goroutines sync.WaitGroup

	// active counts the deliveries that may still join a transaction.
	active atomic.Int64
	// offsets: some may be committed.
	offsets atomic.Bool
	// committing is held while offsets are committed, and by a transaction from
	// its begin to its end: an older plain commit must not overtake it.
	committing sync.Mutex

	mu         sync.Mutex
	partitions map[int32]*partition
	transactor *transactor // nil until the strategy is used
	starting   sync.Mutex  // held while that changes
}

// pollRecords is the most records taken from the client at once.
const pollRecords = 500

func (b *Broker) newConsumer(ctx context.Context, topic string, subscription adapters.Subscription) (*consumer, error) {
	name, err := b.topicName(topic)
	if err != nil {
		return nil, err
	}
	if _, err := b.ready(ctx, name); err != nil {
		return nil, err
	}
	detail, err := b.describe(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("look up topic %q: %w", name, err)
	}
	c := &consumer{
		broker: b, subscription: subscription, topic: topic, name: name, idLog: IDLogName(subscription.Group, name), topicID: detail.ID,
		out: make(chan *message.Message), values: context.WithoutCancel(ctx),
		logger:  b.config.Logger.With("topic", topic, "group", subscription.Group),
		closing: make(chan struct{}), cut: make(chan struct{}), polled: make(chan struct{}), joined: make(chan struct{}), rejected: make(chan error, 1),
		partitions: map[int32]*partition{},
	}
	c.stop = sync.OnceFunc(func() { close(c.closing) })
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.polling, c.endPoll = context.WithCancel(c.ctx)
	if window := b.window(subscription.Group); window > 0 {
		if _, err := c.transact(ctx, window); err != nil {
			c.cancel()
			return nil, err
		}
	}
	if b.config.ServerSideGroups {
		c.setSession(ctx)
	}
	if err := c.join(); err != nil {
		c.endTransactor(ctx)
		c.cancel()
		return nil, err
	}
	c.flow = flow.New(flow.Config{Window: subscription.Window})
	c.goroutines.Go(c.poll)
	c.goroutines.Go(c.forward)
	c.goroutines.Go(c.keepCommitting)

	timeout := time.NewTimer(b.config.RebalanceTimeout)
	defer timeout.Stop()
	select {
	case <-c.joined:
	case err := <-c.rejected:
		_ = c.close()
		return nil, fmt.Errorf("join group %q: %w", subscription.Group, err)
	case <-timeout.C:
		c.logger.Warn("the group has not taken this consumer in yet: going on waiting", "waited", b.config.RebalanceTimeout)
	case <-ctx.Done(): // the caller closes it
	}
	return c, nil
}

func (c *consumer) options() []kgo.Opt {
	config := &c.broker.config
	options := []kgo.Opt{
		kgo.ConsumerGroup(c.subscription.Group),
		kgo.ConsumeTopics(c.name),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// Markers of transactions take offsets too. Seeing them lets the
		// committed offset reach the end of the log.
		kgo.KeepControlRecords(),
		kgo.DisableAutoCommit(),
		// No rebalance between taking records from the client and knowing which
		// assignment they are of.
		kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(config.SessionTimeout),
		kgo.HeartbeatInterval(min(3*time.Second, config.SessionTimeout/3)),
		kgo.RebalanceTimeout(config.RebalanceTimeout),
		// A partition that is new here waits for the fetch under way to return.
		kgo.FetchMaxWait(500 * time.Millisecond),
		kgo.OnPartitionsAssigned(c.assigned),
		kgo.OnPartitionsRevoked(c.revoked),
		kgo.OnPartitionsLost(c.lost),
		kgo.Rack(config.Rack),
	}
	if config.ServerSideGroups {
		return append(options, kgo.ServerSideBalancer())
	}
	return append(options, kgo.Balancers(kgo.CooperativeStickyBalancer()))
}

// poll takes records from the client and offers them to the flow, until closing.
func (c *consumer) poll() {
	defer close(c.polled)
	var batch []*delivery
	round := c.newRound()
	for {
		client := c.client.Load()
		fetches := client.PollRecords(round, pollRecords)
		woken := round.Err() != nil
		if woken {
			// Before the look at what there is to see: a call to wake that comes from
			// here on, also while the records are passed on, ends the next poll at once.
			round = c.newRound()
		}
		if c.polling.Err() != nil || fetches.IsClientClosed() {
			client.AllowRebalance()
			return
		}
		anew := c.anew.Swap(false)
		if c.fenced(client) {
			client.AllowRebalance()
			c.broker.counters.lost.Add(int64(len(c.owned())))
			c.logger.Warn("the group took this consumer for gone and gave it another member ID: beginning anew with its partitions")
			if !c.reenter() {
				return
			}
			continue
		}
		if anew {
			client.AllowRebalance()
			if !c.reenter() {
				return
			}
			continue
		}
		deleted := false
		fetches.EachError(func(_ string, number int32, err error) {
			if errors.Is(err, context.Canceled) && woken {
				return // records may have come with it all the same
			}
			c.logger.Warn("fetch: trying again", "partition", number, "error", err)
			deleted = deleted || replaced(err)
			if reason := rejection(err); reason != nil {
				select {
				case c.rejected <- reason:
				default:
				}
			}
		})
		batch = c.take(fetches, batch[:0])
		client.AllowRebalance()
		for i, d := range batch {
			if d.partition.isLeaving() {
				d.inactive()
				continue
			}
			if err := c.flow.Offer(c.polling, d); err != nil {
				for _, d := range batch[i:] {
					d.inactive()
				}
				return
			}
		}
		clear(batch)
		if deleted && !c.rejoin() {
			return
		}
	}
}

// newRound is a context for polls, until somebody wakes them.
func (c *consumer) newRound() context.Context {
	round, wake := context.WithCancel(c.polling)
	c.woken.Store(&wake)
	return round
}

// rejection is why a group refuses a member for good.
func rejection(err error) error {
	var session *kgo.ErrGroupSession
	if !errors.As(err, &session) {
		return nil
	}
	switch {
	case errors.Is(err, kerr.InvalidSessionTimeout):
		return fmt.Errorf("%w: set kafka.session_timeout between group.min.session.timeout.ms and group.max.session.timeout.ms of the brokers", session.Err)
	case errors.Is(err, kerr.InconsistentGroupProtocol):
		return fmt.Errorf("%w: a consumer of another kind is in the group; Hapax needs the group for itself, with the cooperative-sticky assignor", session.Err)
	case errors.Is(err, kerr.GroupAuthorizationFailed), errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.InvalidGroupID), errors.Is(err, kerr.UnsupportedVersion):
		return session.Err
	}
	return nil
}

// take makes deliveries of records, in their partitions of now.
func (c *consumer) take(fetches kgo.Fetches, batch []*delivery) []*delivery {
	c.mu.Lock()
	defer c.mu.Unlock()
	fetches.EachRecord(func(r *kgo.Record) {
		p := c.partitions[r.Partition]
		state := open
		if r.Attrs.IsControl() {
			state = settled
		}
		switch {
		case p == nil:
		case !p.progress.begin(r.Offset, state):
			// The client has set its position back. Brokers before 3.1 do not tell it that
			// the topic is another one, only that it does not have the offset.
			if !c.anew.Swap(true) {
				c.logger.Warn("the offsets of a partition begin again: the topic was made anew, or its log was cut; beginning anew in the group", "partition", r.Partition, "offset", r.Offset)
				c.wake()
			}
		case state == settled:
			c.offsets.Store(true)
		default:
			d := &delivery{partition: p, record: r, attempts: 1}
			d.Position = c.topic + "/" + strconv.Itoa(int(r.Partition)) + "@" + strconv.FormatInt(r.Offset, 10)
			d.counted.Store(true)
			batch = append(batch, d)
		}
	})
	c.active.Add(int64(len(batch)))
	return batch
}

// exhausted reports whether a message was handed out as often as is allowed.
func (c *consumer) exhausted(attempts int) bool {
	return c.subscription.MaxDeliveries > 0 && attempts >= c.subscription.MaxDeliveries
}

func (c *consumer) isClosing() bool {
	select {
	case <-c.closing:
		return true
	default:
		return false
	}
}

// close drains, commits what was acked, leaves the group and frees everything. The
// channel of messages is closed last, because the Router closes a handler's
// publisher then.
func (c *consumer) close() error {
	c.stop()
	c.endPoll()
	drain, cancel := context.WithTimeoutCause(c.ctx, max(c.subscription.DrainTimeout, 0), errDraining)
	partitions := c.owned()
	for _, p := range partitions {
		p.leave()
	}
	c.hurry()
	for _, p := range partitions {
		_ = p.awaitSettled(drain) // Drain reports what is left
	}
	close(c.cut)
	err := c.flow.Drain(drain)
	// Handlers whose messages were acked early still wait for their transaction.
	if err = errors.Join(err, c.endTransactor(drain)); err != nil {
		c.logger.Warn("drain subscription: the next owners get the rest", "error", err)
	}
	cancel()

	<-c.polled // it may be replacing the client
	partitions = c.owned()
	commit, cancel := context.WithTimeout(c.ctx, c.broker.config.closeTimeout())
	defer cancel()
	if err := c.commitOffsets(commit, partitions); err != nil {
		c.logger.Warn("commit offsets before leaving: the messages come again", "error", err)
	}
	for _, p := range partitions {
		p.lose(errDraining)
	}
	c.forget(partitions)
	c.leaveGroup(c.client.Load())
	c.cancel()
	c.goroutines.Wait()
	close(c.out)
	return nil // what is left uncommitted comes again
}

// closeTimeout bounds the goodbye to a broker that may be away. After the session
// timeout there is nobody left to say it to.
func (c *Config) closeTimeout() time.Duration { return min(5*time.Second, c.SessionTimeout) }

// owned lists the partitions of now.
func (c *consumer) owned() []*partition {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]*partition, 0, len(c.partitions))
	for _, p := range c.partitions {
		list = append(list, p)
	}
	return list
}

// nudge lets the transaction look whether it has everything it may wait for.
func (c *consumer) nudge() {
	if c.active.Load() > 0 {
		return
	}
	c.mu.Lock()
	t := c.transactor
	c.mu.Unlock()
	if t != nil {
		signal(t.nudged)
	}
}

func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}
