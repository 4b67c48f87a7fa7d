package kafka

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hapax-go/hapax/dedup"
)

// partition is what a consumer knows of a partition from its assignment to its
// loss. When the same partition comes back it is a new one.
type partition struct {
	consumer *consumer
	number   int32
	member   string // the consumer's ID in the group when it was assigned
	lane     string
	ctx      context.Context // of its messages; ends when it is another member's
	cancel   context.CancelCauseFunc
	progress *progress
	leaving  chan struct{} // closed when nothing more of it is handed out

	changed chan struct{} // something has ended

	mu     sync.Mutex
	gone   bool  // it may be another member's
	left   bool  // leaving is closed
	busy   int   // messages being handled, and deliveries being committed
	handed int64 // highest offset that was handed out; -1 when none
	// postponed are the offsets that were nacked, and when they are handed out again.
	postponed map[int64]time.Time

	// The processed IDs, from restored on.
	restoring bool
	restored  chan struct{}
	broken    error // why they are not complete
	ids       *idTable
	// pending are the IDs that the transactor has and has not committed.
	pending map[dedup.ID]*item
}

func (c *consumer) newPartition(number int32, member string) *partition {
	p := &partition{
		consumer: c, number: number, member: member, lane: fmt.Sprint("partition ", number), progress: newProgress(),
		leaving: make(chan struct{}), changed: make(chan struct{}, 1), handed: -1, restored: make(chan struct{}), pending: map[dedup.ID]*item{}, postponed: map[int64]time.Time{},
	}
	p.ctx, p.cancel = context.WithCancelCause(c.values)
	return p
}

func (p *partition) isLeaving() bool {
	select {
	case <-p.leaving:
		return true
	default:
		return false
	}
}

func (p *partition) isGone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone
}

// leave stops handing out, except what stands before something that was handed out
// already: a gap would hold the committed offset down, and everything behind it
// would be handed out again by the next owner.
func (p *partition) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.left {
		p.left = true
		close(p.leaving)
	}
}

// mayStay reports whether a message may still be handed out.
func (p *partition) mayStay(offset int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.left || !p.gone && offset <= p.handed
}

// lose gives the partition up: from now on nothing of it is committed.
func (p *partition) lose(cause error) {
	p.leave()
	p.mu.Lock()
	p.gone = true
	if p.ids != nil {
		p.consumer.broker.idMemory.Add(-p.ids.bytes())
		p.ids = nil
	}
	p.mu.Unlock()
	p.cancel(cause)
}

// enter counts a message that is being handed out. It fails when the partition is
// leaving.
func (p *partition) enter(offset int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left && (p.gone || offset > p.handed) {
		return false
	}
	p.busy++
	delete(p.postponed, offset)
	return true
}

// postpone notes that a nacked message is handed out again after a while.
func (p *partition) postpone(offset int64, after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.postponed[offset] = time.Now().Add(after)
}

// beyond reports whether a message is postponed to a time after one. The caller holds p.mu.
func (p *partition) beyond(deadline time.Time) bool {
	for _, at := range p.postponed {
		if at.After(deadline) {
			return true
		}
	}
	return false
}

// sent notes that an entered message was handed out.
func (p *partition) sent(offset int64) {
	p.mu.Lock()
	p.handed = max(p.handed, offset)
	p.mu.Unlock()
}

// hold is enter for what was handed out before.
func (p *partition) hold() {
	p.mu.Lock()
	p.busy++
	p.mu.Unlock()
}

func (p *partition) exit() {
	p.mu.Lock()
	p.busy--
	p.mu.Unlock()
	signal(p.changed)
}

// awaitSettled waits, after leave, until everything up to the last message handed
// out is settled, and nothing is being handled or committed. What is postponed to after
// the end of ctx cannot be settled, and holds the committed offset down anyway: then
// only what is being handled is waited for.
func (p *partition) awaitSettled(ctx context.Context) error {
	deadline, bounded := ctx.Deadline()
	glance := time.NewTicker(50 * time.Millisecond) // a signal may have gone to another waiter
	defer glance.Stop()
	for {
		p.mu.Lock()
		still := !p.gone && (p.busy > 0 || !p.progress.settledTo(p.handed) && !(bounded && p.beyond(deadline)))
		p.mu.Unlock()
		if !still {
			return nil
		}
		select {
		case <-p.changed:
		case <-glance.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
