package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/hapax-go/hapax/internal/failpoint"
)

// assigned is called when the group gives this member partitions.
func (c *consumer) assigned(_ context.Context, client *kgo.Client, added map[string][]int32) {
	c.broker.counters.rebalances.Add(1)
	member, _ := client.GroupMetadata()
	var fresh []*partition
	c.mu.Lock()
	for _, number := range added[c.name] {
		p := c.newPartition(number, member)
		if old := c.partitions[number]; old != nil {
			old.lose(errRevoked)
		}
		if c.isClosing() {
			p.leave()
		}
		c.partitions[number] = p
		fresh = append(fresh, p)
	}
	t := c.transactor
	c.mu.Unlock()
	c.logger.Debug("partitions assigned", "partitions", added[c.name])
	if t != nil {
		t.restore(fresh)
	}
	c.joinedOnce.Do(func() { close(c.joined) })
}

// revoked is called before the group gives partitions to another member. It hands
// them over in order: no message more is handed out, those being handled may
// finish and commit, and then the offsets are committed. The transaction is ended
// by its own goroutine, not here; the group waits for this function up to the
// rebalance timeout.
func (c *consumer) revoked(_ context.Context, _ *kgo.Client, removed map[string][]int32) {
	partitions := c.remove(removed[c.name], (*partition).leave)
	if len(partitions) == 0 {
		return
	}
	patience := min(c.broker.config.RebalanceTimeout*2/3, max(c.subscription.DrainTimeout, 0))
	ctx, cancel := context.WithTimeoutCause(c.ctx, patience, errRevoked)
	defer cancel()
	c.hurry()
	for _, p := range partitions {
		if p.awaitSettled(ctx) != nil {
			c.logger.Warn("handlers are still at work on a partition that goes to another member: their commits will be refused", "partition", p.number, "waited", patience)
		}
	}
	commit, cancel := context.WithTimeout(c.ctx, min(c.broker.config.closeTimeout(), c.broker.config.RebalanceTimeout/4))
	defer cancel()
	if err := c.commitOffsets(commit, partitions); err != nil {
		c.logger.Warn("commit offsets before a rebalance: the next owner gets the messages again", "error", err)
	}
	for _, p := range partitions {
		p.lose(errRevoked)
	}
	c.forget(partitions)
	c.logger.Debug("partitions revoked", "partitions", removed[c.name])
}

// lost is called when the group gave partitions away without asking, because this
// member was silent for too long.
func (c *consumer) lost(_ context.Context, _ *kgo.Client, removed map[string][]int32) {
	partitions := c.remove(removed[c.name], func(p *partition) { p.lose(errRevoked) })
	c.forget(partitions)
	if len(partitions) > 0 {
		c.broker.counters.lost.Add(int64(len(partitions)))
		c.logger.Warn("the group gave this member's partitions away: it was silent for longer than the session timeout", "partitions", removed[c.name])
	}
}

func (c *consumer) remove(numbers []int32, how func(*partition)) (partitions []*partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, number := range numbers {
		if p := c.partitions[number]; p != nil {
			how(p)
			partitions = append(partitions, p)
		}
	}
	return partitions
}

func (c *consumer) forget(partitions []*partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range partitions {
		if c.partitions[p.number] == p {
			delete(c.partitions, p.number)
		}
	}
}

// hurry closes the open transaction soon.
func (c *consumer) hurry() {
	c.mu.Lock()
	t := c.transactor
	c.mu.Unlock()
	if t != nil {
		signal(t.hurried)
	}
}

// keepCommitting commits the offsets of messages that were acked without a
// transaction: duplicates, and everything in groups without the strategy.
func (c *consumer) keepCommitting() {
	ticker := time.NewTicker(c.broker.config.CommitInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-c.closing:
			return
		}
		// An open transaction commits them too.
		if !c.offsets.Load() || !c.committing.TryLock() {
			continue
		}
		c.offsets.Store(false)
		ctx, cancel := context.WithTimeout(c.polling, c.broker.config.SessionTimeout)
		if err := c.commitLocked(ctx, c.owned()); err != nil && c.polling.Err() == nil {
			c.offsets.Store(true)
			c.logger.Warn("commit offsets: trying again", "error", err)
		}
		cancel()
		c.committing.Unlock()
	}
}

// commitOffsets commits what is settled. It waits for an open transaction, but not
// longer than ctx.
func (c *consumer) commitOffsets(ctx context.Context, partitions []*partition) error {
	for !c.committing.TryLock() {
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	defer c.committing.Unlock()
	return c.commitLocked(ctx, partitions)
}

func (c *consumer) commitLocked(ctx context.Context, partitions []*partition) error {
	offsets := map[int32]kgo.EpochOffset{}
	news := map[int32]*partition{}
	member, _ := c.client.Load().GroupMetadata()
	for _, p := range partitions {
		if next, ok := p.progress.low(false); ok && !p.isGone() && p.member == member {
			offsets[p.number] = kgo.EpochOffset{Epoch: -1, Offset: next}
			news[p.number] = p
		}
	}
	if len(offsets) == 0 {
		return nil
	}
	if err := failpoint.Hit(failpoint.BeforeAck); err != nil {
		return err
	}
	var failure error
	c.client.Load().CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{c.name: offsets}, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, answer *kmsg.OffsetCommitResponse, err error) {
		if err != nil {
			failure = err
			return
		}
		for _, topic := range answer.Topics {
			for _, answered := range topic.Partitions {
				if err := kerr.ErrorForCode(answered.ErrorCode); err != nil {
					failure = errors.Join(failure, fmt.Errorf("partition %d: %w", answered.Partition, err))
				} else if p := news[answered.Partition]; p != nil {
					p.progress.done(offsets[answered.Partition].Offset)
				}
			}
		}
	})
	if failure != nil {
		return failure
	}
	return failpoint.Hit(failpoint.AfterAck)
}
