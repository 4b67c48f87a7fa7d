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

// lost is called when this member's session in the group ended without its asking: it
// was silent for too long, no broker can be reached, or the group refuses it.
func (c *consumer) lost(_ context.Context, _ *kgo.Client, removed map[string][]int32) {
	partitions := c.remove(removed[c.name], func(p *partition) { p.lose(errRevoked) })
	c.forget(partitions)
	if len(partitions) > 0 {
		c.broker.counters.lost.Add(int64(len(partitions)))
		c.logger.Warn("the session in the group has ended: its partitions may go to other members, and are given up here", "partitions", removed[c.name])
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
			if !rebalancing(err) {
				c.logger.Warn("commit offsets: trying again", "error", err)
			}
		}
		cancel()
		c.committing.Unlock()
	}
}

// commitOffsets commits what is settled. It waits for an open transaction and for a
// rebalance, but not longer than ctx.
func (c *consumer) commitOffsets(ctx context.Context, partitions []*partition) error {
	for {
		var err error
		if c.committing.TryLock() {
			err = c.commitLocked(ctx, partitions)
			c.committing.Unlock()
			if !rebalancing(err) {
				return err
			}
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// rebalancing reports that the group takes no offsets in a member's generation at
// present: a rebalance is being completed, and the member will soon know the next one.
func rebalancing(err error) bool {
	return errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.StaleMemberEpoch) || errors.Is(err, kerr.RebalanceInProgress)
}

// commitLocked commits in the name of the member and generation of now, and does not
// wait for the end of a rebalance. franz-go's own commit does, which takes as long as
// the slowest member hands over, and no transaction could begin meanwhile.
func (c *consumer) commitLocked(ctx context.Context, partitions []*partition) error {
	// Read before looking at the partitions: one that is lost after the look is lost in
	// a later generation, and the group refuses a commit in this one.
	client := c.client.Load()
	member, generation := client.GroupMetadata()
	offsets := map[int32]int64{}
	news := map[int32]*partition{}
	for _, p := range partitions {
		if next, ok := p.progress.low(false); ok && !p.isGone() && p.member == member {
			offsets[p.number], news[p.number] = next, p
		}
	}
	if len(offsets) == 0 {
		return nil
	}
	if err := failpoint.Hit(failpoint.BeforeAck); err != nil {
		return err
	}
	request := kmsg.NewPtrOffsetCommitRequest()
	request.Group, request.MemberID, request.Generation = c.subscription.Group, member, generation
	request.Topics = c.offsetTopics(offsets)
	answer, err := request.RequestWith(ctx, client.Client)
	if err != nil {
		return err
	}
	for _, topic := range answer.Topics {
		for _, answered := range topic.Partitions {
			if refusal := kerr.ErrorForCode(answered.ErrorCode); refusal != nil {
				err = errors.Join(err, fmt.Errorf("partition %d: %w", answered.Partition, refusal))
			} else if p := news[answered.Partition]; p != nil {
				p.progress.done(offsets[answered.Partition])
			}
		}
	}
	if err != nil {
		return err
	}
	return failpoint.Hit(failpoint.AfterAck)
}

// offsetTopics is what a request to commit says of the consumer's topic.
func (c *consumer) offsetTopics(offsets map[int32]int64) []kmsg.OffsetCommitRequestTopic {
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic = c.name
	for number, next := range offsets {
		part := kmsg.NewOffsetCommitRequestTopicPartition()
		part.Partition, part.Offset = number, next
		topic.Partitions = append(topic.Partitions, part)
	}
	return []kmsg.OffsetCommitRequestTopic{topic}
}
