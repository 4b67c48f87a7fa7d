package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hapax-go/hapax/dedup"
)

// transactor commits what the claims of one consumer want committed, a transaction
// after the other, in a goroutine of its own:
//
//	        first item                full, late, hurried, or
//	idle ──────────────► open ─────── nothing left to wait for ──► ending
//	  ▲                   ▲ │ items join, and their                  │
//	  │                   └─┘ outputs are sent at once               │
//	  └────────── committed: items end · aborted: items queue again ─┘
type transactor struct {
	consumer *consumer
	window   time.Duration
	id       string // transactional.id

	queue   chan *item
	hurried chan struct{}
	nudged  chan struct{}
	closing chan struct{} // closed by close: take no more
	closed  chan struct{} // closed when the goroutine has ended
	once    sync.Once

	// ctx ends when the consumer gives up waiting.
	ctx    context.Context
	cancel context.CancelFunc

	restoring sync.WaitGroup
	// committed are transactions whose items are still to be ended, in order.
	committed chan *transaction

	// Of the goroutine.
	client *kgo.Client // nil: to be opened, which fences what came before
	again  []*item     // of aborted transactions, in order
	limit  int         // of deliveries in a transaction
	pause  time.Duration
	relook bool // whether the log of processed IDs is still there
}

var (
	errStopped    = fmt.Errorf("subscription was closed: %w", dedup.ErrLeaseLost)
	errBatchSplit = errors.New("the batch has to be composed anew")
)

// transact returns the consumer's transactor; the first call starts it, after it
// has made sure of the log of processed IDs.
func (c *consumer) transact(ctx context.Context, window time.Duration) (*transactor, error) {
	c.mu.Lock()
	t := c.transactor
	c.mu.Unlock()
	if t != nil {
		return t, nil
	}
	c.starting.Lock()
	defer c.starting.Unlock()
	c.mu.Lock()
	t = c.transactor
	c.mu.Unlock()
	switch {
	case t != nil:
		return t, nil
	case c.isClosing():
		return nil, errStopped
	}
	if err := c.broker.readyIDLog(ctx, c.idLog, c.name, window); err != nil {
		return nil, err
	}
	t = &transactor{
		consumer: c, window: window, id: c.subscription.Group + "." + c.name + "." + uuid.NewString(),
		queue:   make(chan *item, max(2*c.broker.config.MaxRecords, c.subscription.Window)),
		hurried: make(chan struct{}, 1), nudged: make(chan struct{}, 1), closing: make(chan struct{}), closed: make(chan struct{}),
		limit: c.broker.config.MaxRecords, committed: make(chan *transaction, 4),
	}
	t.ctx, t.cancel = context.WithCancel(c.ctx)
	c.mu.Lock()
	c.transactor = t
	var partitions []*partition
	for _, p := range c.partitions {
		partitions = append(partitions, p)
	}
	c.mu.Unlock()
	t.restore(partitions)
	go t.run()
	return t, nil
}

// submit queues an item. It waits while the queue is full: handlers whose messages
// were acked early are not in the window any more.
func (t *transactor) submit(ctx context.Context, it *item) error {
	select {
	case <-t.closing:
		return errStopped
	default:
	}
	for _, d := range it.deliveries {
		d.inactive()
	}
	select {
	case t.queue <- it:
		return nil
	case <-t.closed:
		return errStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run commits transactions until closing, and then what is left in the queue.
func (t *transactor) run() {
	defer close(t.closed)
	var ending sync.WaitGroup
	ending.Go(t.end)
	for {
		it := t.next()
		if it == nil {
			break
		}
		t.transaction(it)
	}
	if t.client != nil {
		t.client.Close()
	}
	close(t.committed)
	ending.Wait()
}

// end ends the items of committed transactions, beside the next transaction: to wake
// hundreds of handlers takes longer than to ask the broker.
func (t *transactor) end() {
	for tx := range t.committed {
		tx.remember()
		for _, it := range tx.items {
			it.finish(nil)
		}
	}
}

// next waits for the first item of a transaction; nil when it is over.
func (t *transactor) next() *item {
	for {
		if t.pause > 0 {
			timer := time.NewTimer(t.pause)
			select {
			case <-timer.C:
			case <-t.ctx.Done():
			}
			timer.Stop()
		}
		if t.ctx.Err() != nil {
			t.abandon()
			return nil
		}
		if len(t.again) > 0 {
			it := t.again[0]
			t.again = t.again[1:]
			return it
		}
		select {
		case it := <-t.queue:
			return it
		default:
		}
		select {
		case it := <-t.queue:
			return it
		case <-t.ctx.Done():
		case <-t.closing:
			select {
			case it := <-t.queue:
				return it
			default:
				return nil
			}
		}
	}
}

// abandon ends everything that was not committed in time.
func (t *transactor) abandon() {
	for _, it := range t.again {
		it.finish(errStopped)
	}
	t.again = nil
	t.drop()
}

// drop ends what is in the queue. Several may do so at once: each item is one's.
func (t *transactor) drop() {
	for {
		select {
		case it := <-t.queue:
			it.finish(errStopped)
		default:
			return
		}
	}
}

// endTransactor commits what is in the queue, until ctx ends.
func (c *consumer) endTransactor(ctx context.Context) error {
	c.starting.Lock()
	defer c.starting.Unlock()
	c.mu.Lock()
	t := c.transactor
	if t != nil {
		t.once.Do(func() { close(t.closing) }) // under the lock that restore takes
	}
	c.mu.Unlock()
	if t == nil {
		return nil
	}
	signal(t.hurried)
	var err error
	select {
	case <-t.closed:
	case <-ctx.Done():
		err = fmt.Errorf("end the last transaction: %w", context.Cause(ctx))
	}
	t.cancel()
	<-t.closed
	t.restoring.Wait()
	return err
}

// transaction runs one transaction: it begins with an item, gathers others, and
// commits.
func (t *transactor) transaction(first *item) {
	c := t.consumer
	c.committing.Lock()
	defer c.committing.Unlock()
	tx := &transaction{transactor: t}
	err := tx.begin(first)
	if err == nil {
		tx.gather()
		err = tx.commit()
	}
	if len(tx.items) > 0 {
		t.settle(tx, err)
	}
}

// settle ends the items of a transaction, or queues them again.
func (t *transactor) settle(tx *transaction, err error) {
	c := t.consumer
	if err == nil {
		c.broker.counters.transactions.Add(1)
		t.committed <- tx
		t.limit, t.pause = min(2*t.limit, c.broker.config.MaxRecords), 0
		return
	}
	c.broker.counters.aborts.Add(1)
	c.logger.Warn("transaction aborted: its messages go into the next one", "messages", tx.messages(), "error", err)
	tx.unstage()
	var again []*item
	unclear := false // which item a refusal was about
	for _, it := range tx.items {
		failure := it.failure.Load()
		switch {
		case errors.Is(err, dedup.ErrLeaseLost):
			it.finish(err)
		case failure != nil && errors.Is(*failure, dedup.ErrBadOutput) && tx.shared(it):
			// Forgotten, or it would count if the next transaction does not even begin.
			it.failure.Store(nil)
			again, unclear = append(again, it), true
		case failure != nil && it.released.Load():
			// Sent once, acked, and refused now: only as a redelivery can it fail alone.
			c.giveUp(it)
			it.finish(errRevoked)
		case failure != nil:
			it.finish(*failure)
		default:
			again = append(again, it)
		}
	}
	t.again = append(again, t.again...)
	// Smaller, so that in the end a message that cannot be committed is alone.
	t.limit = max(1, min(len(tx.items), t.limit)/2)
	t.pause = min(max(2*t.pause, 5*time.Millisecond), time.Second)
	if unclear { // there is nothing to wait for, and soon it is alone
		t.pause = 0
	}
}
