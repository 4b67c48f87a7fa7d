package rabbitmq

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/hapax-go/hapax/adapters/flow"
)

// balanceEvery is how often a member looks whether its share of the partitions is
// right. A partition whose member died waits about so long.
const balanceEvery = time.Second

// A member consumes its share of the partitions, and no more: the server's single
// active consumer keeps a second one of a queue waiting, so that order holds
// whatever members believe. That each has its share is the balancer's work, and no
// more than a matter of speed:
//
//	members   = consumers of the group's members queue
//	share     = partitions / members, rounded down for sure, up where some are over
//	too few   → consume the group's queue of those that want, too; take partitions
//	            that nobody consumes
//	too many, or more than sure while somebody wants
//	          → give one up: receive no more, let what is in flight finish, close
//	shared by accident (two took it at the same moment, or one was away for a
//	time) → one of two gives it up
//
// A quorum queue does not count the consumers that it keeps waiting. So whoever consumes
// a partition also consumes a queue of those that hold it; else a member that waits for
// another would go on counting the partition among its own, and a third could be left
// to nobody.
type balancer struct {
	*consumer
	members, wants string // queues whose consumers are counted
	wanting        bool   // this member is among them
	channel        *amqp.Channel
	counted, asked <-chan amqp.Delivery // of members and wants; closed: the server has taken this member off
}

// beginPartitions takes this member's first share. It waits, for a time, until the
// others have given up what is too much for them: who publishes after Subscribe has
// returned finds the group at rest, and nobody's messages move.
func (c *consumer) beginPartitions(ctx context.Context) error {
	b := &balancer{consumer: c}
	if err := b.open(ctx); err != nil {
		return err
	}
	c.flow = flow.New(flow.Config{Window: c.subscription.Window})
	for deadline := time.Now().Add(3 * balanceEvery); ; {
		err := b.balance(ctx)
		if err != nil {
			b.config().Logger.Warn("share out partitions: trying again", "topic", c.topic, "error", err)
		}
		if err == nil && !b.wanting || ctx.Err() != nil || time.Now().After(deadline) {
			break
		}
		select {
		case <-time.After(balanceEvery / 20):
		case <-ctx.Done():
		}
	}
	c.balancing.Go(b.run)
	return nil
}

func (b *balancer) config() *Config { return &b.broker.config }

// open makes this member known.
func (b *balancer) open(ctx context.Context) (err error) {
	if b.members, err = b.broker.declarePartitions(ctx, b.topic, b.subscription); err != nil {
		return err
	}
	if b.wants, err = queueVariant(b.topic, "%wanting", b.subscription.Group); err != nil {
		return err
	}
	conn, err := b.broker.consuming.get(ctx)
	if err != nil {
		return err
	}
	channel, err := conn.Channel()
	if err != nil {
		return fmt.Errorf("open channel: %w", err) // the former one stays, and is closed
	}
	b.channel, b.wanting = channel, false
	if b.counted, err = channel.Consume(b.members, "", true, false, false, false, nil); err != nil {
		_ = channel.Close()
		return fmt.Errorf("consume queue %q: %w", b.members, err)
	}
	return nil
}

func (b *balancer) run() {
	ctx, cancel := context.WithCancel(b.broker.ctx)
	defer cancel()
	b.balancing.Go(func() {
		select {
		case <-b.closing:
			cancel()
		case <-ctx.Done():
		}
	})
	defer func() { _ = b.channel.Close() }()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(balanceEvery/2 + rand.N(balanceEvery)):
		}
		err := b.balance(ctx)
		if err != nil && ctx.Err() == nil {
			b.config().Logger.Warn("share out partitions: trying again", "topic", b.topic, "error", err)
		}
	}
}

// balance looks once, and moves this member towards its share.
func (b *balancer) balance(ctx context.Context) error {
	if b.channel.IsClosed() || isOver(b.counted) || b.wanting && isOver(b.asked) {
		_ = b.channel.Close()
		if err := b.open(ctx); err != nil {
			return err
		}
	}
	members, err := b.consumers(b.members)
	if err != nil {
		return err
	}
	sure := b.config().Partitions / max(members, 1)
	most := (b.config().Partitions + members - 1) / max(members, 1)
	if err := b.want(len(b.readers) < sure); err != nil {
		return err
	}
	wanting, err := b.consumers(b.wants)
	if err != nil {
		return err
	}
	for number, r := range b.readers {
		holders, err := b.consumers(r.holders)
		if err != nil {
			return err
		}
		tooMany := len(b.readers) > most || len(b.readers) > sure && wanting > 0
		if tooMany || holders > 1 && rand.N(2) == 0 {
			b.giveUp(ctx, number, r)
		}
	}
	enough := most
	if wanting > 0 {
		enough = sure
	}
	for _, number := range rand.Perm(b.config().Partitions) {
		if len(b.readers) >= enough || ctx.Err() != nil {
			break
		}
		if b.readers[number] != nil {
			continue
		}
		if err := b.take(ctx, number); err != nil {
			return err
		}
	}
	return b.want(len(b.readers) < sure)
}

// want tells the others whether this member has too few.
func (b *balancer) want(want bool) (err error) {
	switch {
	case want && !b.wanting:
		b.asked, err = b.channel.Consume(b.wants, wantTag, true, false, false, false, nil)
	case !want && b.wanting:
		err = b.channel.Cancel(wantTag, false)
	}
	if err != nil {
		return fmt.Errorf("tell the group whether partitions are wanted: %w", err)
	}
	b.wanting = want
	return nil
}

const wantTag = "wanting"

// isOver reports that the server has ended a consumer, and not necessarily its channel: the
// queue was deleted, or its node restarted.
func isOver(deliveries <-chan amqp.Delivery) bool {
	select {
	case _, open := <-deliveries:
		return !open
	default:
		return false
	}
}

// consumers counts those of a queue.
func (b *balancer) consumers(queue string) (int, error) {
	found, err := b.channel.QueueDeclarePassive(queue, true, false, false, false, nil)
	if err != nil {
		return 0, fmt.Errorf("count consumers of queue %q: %w", queue, err)
	}
	return found.Consumers, nil
}

// take consumes a partition if nobody does.
func (b *balancer) take(ctx context.Context, number int) error {
	queue, err := partitionName(b.topic, b.subscription.Group, number)
	if err != nil {
		return err
	}
	if taken, err := b.consumers(queue); err != nil || taken > 0 {
		return err
	}
	holders, err := holdersName(b.topic, b.subscription.Group, number)
	if err != nil {
		return err
	}
	r := b.newReader(queue, fmt.Sprintf("-%d", number), func(ctx context.Context) error {
		conn, err := b.broker.consuming.get(ctx)
		if err != nil {
			return err
		}
		return b.broker.declareQueue(conn, queue, b.broker.queueArguments(conn, b.topic, b.subscription))
	})
	r.holders = holders
	s, err := r.open(ctx, false)
	if err != nil {
		return err
	}
	r.start(s)
	b.readers[number] = r
	return nil
}

// giveUp lets another member have a partition. What is in flight is finished first,
// for a time; the rest comes to the other member again, and commits there. When the
// consumer closes meanwhile, it waits for what is in flight itself, and no longer.
func (b *balancer) giveUp(ctx context.Context, number int, r *reader) {
	r.halt()
	r.session.settle(ctx, b.subscription.DrainTimeout)
	if ctx.Err() != nil {
		return // to end the session now would take the time to finish away
	}
	_ = r.session.end(errMoved) // one that was lost is given up as well
	delete(b.readers, number)
}
