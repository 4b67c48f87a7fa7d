package kafka

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"sort"
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
	err  error // of the end, or why it did not begin; read after done

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
//
// An item keeps what it has while it waits for the rest. All ask for IDs in the same
// order, so that no two batches wait for each other's.
func (it *item) enlist() error {
	if len(it.entries) > 1 {
		sort.Sort(byID{it})
	}
	for i := range it.entries {
		if err := it.enlistOne(i); err != nil {
			it.withdraw(i)
			it.err = err
			close(it.done) // another copy may have seen it and wait
			return err
		}
	}
	for _, d := range it.deliveries {
		d.committing.Store(true)
		d.partition.hold()
	}
	return nil
}

func (it *item) enlistOne(i int) error {
	entry, p := it.entries[i], it.deliveries[i].partition
	for {
		p.mu.Lock()
		// Asked again after waiting: the copy may have been committed, and its ID may
		// have found no place in the table.
		if err := p.undecidable(); err != nil {
			p.mu.Unlock()
			return err
		}
		other, verdict := p.pending[entry.ID], dedup.InFlight
		if other == nil {
			verdict = p.ids.verdict(entry.ID, entry.Digest, time.Now())
		}
		if verdict == dedup.Fresh {
			p.pending[entry.ID] = it
		}
		p.mu.Unlock()
		switch {
		case verdict == dedup.InFlight:
			<-other.done
		case verdict == dedup.Fresh:
			return nil
		case verdict == dedup.Conflict:
			return fmt.Errorf("event %q: %w", entry.EventID, dedup.ErrConflict)
		case len(it.entries) > 1:
			return fmt.Errorf("event %q of a batch was committed by another copy: %w", entry.EventID, errBatchSplit)
		default:
			return dedup.ErrLostRace
		}
	}
}

// byID sorts the entries of an item, and their deliveries with them.
type byID struct{ *item }

func (s byID) Len() int { return len(s.entries) }
func (s byID) Less(i, j int) bool {
	// Copies in two partitions are two: each partition has IDs of its own.
	return cmp.Or(bytes.Compare(s.entries[i].ID[:], s.entries[j].ID[:]),
		cmp.Compare(s.deliveries[i].partition.number, s.deliveries[j].partition.number)) < 0
}
func (s byID) Swap(i, j int) {
	s.entries[i], s.entries[j] = s.entries[j], s.entries[i]
	s.deliveries[i], s.deliveries[j] = s.deliveries[j], s.deliveries[i]
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
