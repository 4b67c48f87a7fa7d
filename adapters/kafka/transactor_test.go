package kafka

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// bareTransactor has nothing to commit to.
func (c *consumer) bareTransactor() *transactor {
	t := &transactor{
		consumer: c, window: time.Hour, queue: make(chan *item, 10), hurried: make(chan struct{}, 1), nudged: make(chan struct{}, 1),
		closing: make(chan struct{}), closed: make(chan struct{}), committed: make(chan *transaction, 4), limit: 10,
	}
	t.ctx, t.cancel = context.WithCancel(c.ctx)
	c.transactor = t
	return t
}

// A handler wants something committed and is held up, until nobody commits any more.
// Whether it finds the queue or the end first is a matter of chance.
func TestSubmitWhileClosing(t *testing.T) {
	for range 20 {
		c := bareConsumer(t, 1<<30)
		tr := c.bareTransactor()
		go tr.run()
		d := c.barePartition(0).bareDelivery(0)
		d.counted.Store(true)
		c.active.Store(1)
		c.mu.Lock() // wanted on the way into the queue, behind the first look
		ended := make(chan error, 1)
		go func() { ended <- tr.publish(t.Context(), bareItem(nil, d), nil) }()
		require.Eventually(t, func() bool { return c.active.Load() == 0 }, 20*time.Second, time.Millisecond)
		tr.once.Do(func() { close(tr.closing) })
		<-tr.closed
		c.mu.Unlock()
		require.NoError(t, c.endTransactor(t.Context()))
		select {
		case err := <-ended:
			require.ErrorIs(t, err, errStopped)
		case <-time.After(20 * time.Second):
			require.Fail(t, "the handler waits for ever")
		}
	}
}

// A partition is assigned when the consumer has stopped waiting for what restores.
func TestNothingIsRestoredAfterTheEnd(t *testing.T) {
	c := bareConsumer(t, 1<<30)
	tr := c.bareTransactor()
	go tr.run()
	require.NoError(t, c.endTransactor(t.Context()))
	p := c.newPartition(0, "member")
	tr.restore([]*partition{p})
	require.False(t, p.restoring)
}

// A consumer has become a new member of its group before it was told what that has cost it.
func TestOffsetsOfAnEarlierMemberAreNotCommitted(t *testing.T) {
	c := bareConsumer(t, 1<<30)
	tx := &transaction{transactor: c.bareTransactor()}
	own, earlier := c.barePartition(0), c.newPartition(1, "another member")
	c.partitions[1] = earlier
	tx.items = []*item{bareItem(nil, own.bareDelivery(0))}
	earlier.bareDelivery(0)
	earlier.progress.set(0, settled)
	require.Equal(t, map[*partition]int64{own: 0}, tx.offsets("member", tx.partitions()))
	require.Equal(t, map[*partition]int64{own: 0, earlier: 1}, tx.offsets("another member", tx.partitions()))
}
