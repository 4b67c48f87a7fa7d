package kafka

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hapax-go/hapax/dedup"
)

// item is what one claim commits: it is in a transaction as a whole or not at all.
// When the transaction aborts for a reason that is not the item's, it joins the
// next one; the handler does not run again.
type item struct {
	deliveries []*delivery
	entries    []*dedup.Entry // of the deliveries, in order; none for a dead letter
	outputs    []*kgo.Record

	// unsent counts the outputs that no broker has taken yet, in this attempt.
	unsent atomic.Int32
	// failure is why an output was refused, of this attempt.
	failure atomic.Pointer[error]
	// released: the messages were acked, so that their lanes go on.
	released atomic.Bool

	done chan struct{}
	err  error // of the end; read after done

	oneDelivery [1]*delivery
	oneEntry    [1]*dedup.Entry
}

// publish gives an item to the transactor and waits for its end.
func (t *transactor) publish(ctx context.Context, it *item, outputs []dedup.Output) error {
	for _, output := range outputs {
		record, err := t.consumer.broker.encode(output.Topic, output.Message)
		if err != nil {
			return err
		}
		if _, err := t.consumer.broker.ready(ctx, record.Topic); err != nil {
			return err
		}
		it.outputs = append(it.outputs, record)
	}
	if err := it.enlist(); err != nil {
		return err
	}
	if err := t.submit(ctx, it); err != nil {
		it.finish(err)
	}
	select { // not ctx: what was submitted may commit
	case <-it.done:
	case <-t.closed:
		// It may have come into the queue when nobody looked there any more.
		t.drop()
		<-it.done
	}
	return it.err
}

// enlist puts the item's IDs among the pending ones, unless another copy is there
// or was committed since the claim. It waits for the outcome of a pending copy:
// only a durable one may make this a duplicate (I4).
func (it *item) enlist() error {
	for i := 0; i < len(it.entries); {
		entry, p := it.entries[i], it.deliveries[i].partition
		p.mu.Lock()
		// Asked again after waiting: the copy may have been committed, and its ID may
		// have found no place in the table.
		if err := p.undecidable(); err != nil {
			p.mu.Unlock()
			it.withdraw(i)
			return err
		}
		if other := p.pending[entry.ID]; other != nil {
			p.mu.Unlock()
			// Two batches may wait for each other's events: give up what is
			// held before waiting, and begin anew.
			it.withdraw(i)
			<-other.done
			i = 0
			continue
		}
		verdict := p.ids.verdict(entry.ID, entry.Digest, time.Now())
		if verdict == dedup.Fresh {
			p.pending[entry.ID] = it
			p.mu.Unlock()
			i++
			continue
		}
		p.mu.Unlock()
		it.withdraw(i)
		if verdict == dedup.Conflict {
			return fmt.Errorf("event %q: %w", entry.EventID, dedup.ErrConflict)
		}
		if len(it.entries) > 1 {
			return fmt.Errorf("event %q of a batch was committed by another copy: %w", entry.EventID, errBatchSplit)
		}
		return dedup.ErrLostRace
	}
	for _, d := range it.deliveries {
		d.committing.Store(true)
		d.partition.hold()
	}
	return nil
}

// withdraw takes the first n IDs back.
func (it *item) withdraw(n int) {
	for i, entry := range it.entries[:n] {
		p := it.deliveries[i].partition
		p.mu.Lock()
		if p.pending[entry.ID] == it {
			delete(p.pending, entry.ID)
		}
		p.mu.Unlock()
	}
}

// release acks the messages as soon as nothing but the transaction itself can
// fail, so that their lanes and window slots do not wait for it: what follows in
// a lane is in the same transaction or a later one. Should this one be lost, so is
// the partition, and the next owner gets the messages again.
//
// Not those of a batch over several partitions: when one is lost the batch fails, and
// what is of the others has to be handed out again here.
func (it *item) release() {
	for _, d := range it.deliveries {
		if d.partition != it.deliveries[0].partition {
			return
		}
	}
	if it.released.CompareAndSwap(false, true) {
		for _, d := range it.deliveries {
			d.msg.Ack()
		}
	}
}

// finish ends the item. A nil error: it was committed, and its IDs were moved to
// the tables.
func (it *item) finish(err error) {
	it.err = err
	if err != nil {
		it.withdraw(len(it.entries))
	}
	for _, d := range it.deliveries {
		if err == nil {
			d.partition.progress.set(d.record.Offset, settled)
		} else if !it.released.Load() {
			d.committing.Store(false) // the message is nacked, and comes again
		}
		if err == nil || it.released.Load() {
			d.ctx.End(nil)
		}
		d.partition.exit()
	}
	close(it.done)
}
