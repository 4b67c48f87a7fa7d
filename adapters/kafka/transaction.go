package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
)

// transaction is one Kafka transaction: outputs, processed IDs and offsets.
type transaction struct {
	*transactor
	items   []*item
	size    int // deliveries
	started time.Time
	refused atomic.Bool // an output was
	stale   atomic.Bool // a topic is another one than the producer knows
	logged  []*kgo.Record
}

// begin opens the transaction with its first item.
func (tx *transaction) begin(first *item) error {
	tx.started = time.Now()
	if err := tx.open(); err != nil {
		tx.items = append(tx.items, first)
		return err
	}
	if err := tx.client.BeginTransaction(); err != nil {
		tx.items = append(tx.items, first)
		tx.discard()
		return fmt.Errorf("begin transaction: %w", err)
	}
	tx.add(first)
	return nil
}

// add lets an item join. Its outputs are sent at once: they travel while others
// are still being handled. An item of a partition that is lost ends here.
func (tx *transaction) add(it *item) {
	for _, d := range it.deliveries {
		if d.partition.isGone() {
			it.finish(errRevoked)
			return
		}
	}
	tx.items = append(tx.items, it)
	tx.size += len(it.deliveries)
	for _, d := range it.deliveries {
		d.partition.progress.set(d.record.Offset, staged)
	}
	it.failure.Store(nil)
	if len(it.outputs) == 0 {
		it.release()
		return
	}
	it.unsent.Store(int32(len(it.outputs)))
	for _, output := range it.outputs {
		// A copy: the client writes into records, and an abort sends them again.
		record := &kgo.Record{Topic: output.Topic, Key: output.Key, Value: output.Value, Headers: output.Headers}
		tx.client.Produce(tx.ctx, record, func(_ *kgo.Record, err error) {
			if err != nil {
				tx.refuse(it, output.Topic, err)
				return
			}
			if it.unsent.Add(-1) == 0 {
				it.release()
			}
		})
	}
}

// refuse notes that an output could not be sent. If it is the output's own fault,
// the item fails, unless it may be that of another one in its batch; else it is tried
// again.
func (tx *transaction) refuse(it *item, topic string, err error) {
	tx.refused.Store(true)
	tx.suspect(topic, err)
	bad, hopeless := refused(err)
	if !bad {
		return
	}
	err = fmt.Errorf("send output to %q: %w", topic, err)
	if hopeless {
		err = fmt.Errorf("%w: %w", dedup.ErrBadOutput, err)
	}
	it.failure.Store(&err)
}

// shared reports whether others than an item have outputs to a topic of its own. A broker
// refuses a batch for one of its records, and all that are in it get the error.
func (tx *transaction) shared(it *item) bool {
	return slices.ContainsFunc(tx.items, func(other *item) bool {
		return other != it && slices.ContainsFunc(other.outputs, func(theirs *kgo.Record) bool {
			return slices.ContainsFunc(it.outputs, func(own *kgo.Record) bool { return own.Topic == theirs.Topic })
		})
	})
}

// suspect notes that a topic may have been deleted or made anew. It is looked up
// again before the next output to it, by a producer that knows nothing.
func (tx *transaction) suspect(topic string, err error) {
	if replaced(err) {
		tx.consumer.broker.topics.Delete(topic)
		tx.stale.Store(true)
	}
}

// gather takes items in until the transaction is full, its time is over, somebody
// is in a hurry, or nothing is being handled that might still join.
func (tx *transaction) gather() {
	timer := time.NewTimer(tx.consumer.broker.config.MaxTime)
	defer timer.Stop()
	for len(tx.again) > 0 && tx.size < tx.limit {
		it := tx.again[0]
		tx.again = tx.again[1:]
		tx.add(it)
	}
	for tx.size < tx.limit {
		select {
		case it := <-tx.queue:
			tx.add(it)
			continue
		default:
		}
		if tx.consumer.active.Load() <= 0 {
			return
		}
		select {
		case it := <-tx.queue:
			tx.add(it)
		case <-tx.nudged:
		case <-timer.C:
			return
		case <-tx.hurried:
			return
		case <-tx.ctx.Done():
			return
		}
	}
}

// errAborted: the transaction was not committed, and its items may be tried again.
var errAborted = errors.New("not committed")

// commit ends the transaction. nil: it is committed. ErrLeaseLost: the group has
// taken this member's partitions away. Any other error: it is aborted.
func (tx *transaction) commit() error {
	ctx, cancel := tx.graceful()
	defer cancel()
	if len(tx.items) == 0 { // all were of partitions that are lost
		return tx.abort(errAborted)
	}
	// The generation is read before looking at the partitions. One that is lost
	// after the look is lost in a later generation, and a commit that names the
	// one of before is refused, or holds the next owner up until it has ended.
	member, generation := tx.consumer.client.Load().GroupMetadata()
	partitions := tx.partitions()
	for p := range partitions {
		if p.isGone() {
			return tx.abort(fmt.Errorf("partition %d is lost: %w", p.number, errAborted))
		}
		if p.member != member {
			// Lost, so that the window empties: poll may be waiting for a place in it.
			p.lose(errRevoked)
			tx.consumer.wake()
			return tx.abort(fmt.Errorf("partition %d was assigned to this consumer when it was another member of the group: %w", p.number, errAborted))
		}
	}
	tx.log(partitions)
	if err := tx.client.Flush(ctx); err != nil {
		return tx.abort(fmt.Errorf("send outputs: %w", err))
	}
	if tx.refused.Load() {
		return tx.abort(fmt.Errorf("an output was refused: %w", errAborted))
	}
	if err := failpoint.Hit(failpoint.AfterPublish); err != nil {
		return tx.abort(err)
	}
	offsets := tx.offsets(member, partitions)
	// Only now, behind the IDs: an owner to come reads the log of IDs as far as
	// it goes when the group names it. If these offsets were accepted before
	// that, the IDs are in what it reads, and it waits for their outcome.
	if err := failpoint.Hit(failpoint.BeforeAck); err != nil {
		return tx.abort(err)
	}
	if err := tx.commitOffsets(ctx, member, generation, offsets); err != nil {
		return tx.abort(err)
	}
	if err := failpoint.Hit(failpoint.BeforeMark); err != nil {
		return tx.abort(err)
	}
	if err := tx.client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return tx.resolve(err)
	}
	for p, next := range offsets {
		p.progress.done(next)
	}
	_ = failpoint.Hit(failpoint.AfterAck) // an error could not undo it
	return nil
}

// partitions groups the entries of the items.
func (tx *transaction) partitions() map[*partition][]*dedup.Entry {
	entries := map[*partition][]*dedup.Entry{}
	for _, it := range tx.items {
		for i, d := range it.deliveries {
			list := entries[d.partition]
			if i < len(it.entries) {
				list = append(list, it.entries[i])
			}
			entries[d.partition] = list
		}
	}
	return entries
}

// log sends the processed IDs, one record a partition, or several where one would be
// larger than a message may be; and one even where there are none (dead letters): whether
// it is readable tells the transaction's fate.
func (tx *transaction) log(partitions map[*partition][]*dedup.Entry) {
	for p, entries := range partitions {
		for part := range slices.Chunk(entries, maxLogged(tx.consumer.broker.config.MaxPayload)) {
			tx.logRecord(p, part)
		}
		if len(entries) == 0 {
			tx.logRecord(p, nil)
		}
	}
}

func (tx *transaction) logRecord(p *partition, entries []*dedup.Entry) {
	record := &kgo.Record{
		Topic: tx.consumer.idLog, Partition: p.number, Timestamp: tx.started,
		Value: appendIDs(make([]byte, 0, 16+len(entries)*logEntry), entries),
	}
	tx.logged = append(tx.logged, record)
	tx.client.Produce(tx.ctx, record, func(_ *kgo.Record, err error) {
		if err != nil {
			tx.refused.Store(true)
			tx.suspect(tx.consumer.idLog, err)
			var answer *kerr.Error
			if !errors.As(err, &answer) && !errors.Is(err, kgo.ErrAborting) {
				tx.stale.Store(true) // the client refused: it may not know of partitions that were added
			}
			tx.consumer.logger.Warn("send processed IDs", "log", tx.consumer.idLog, "partition", p.number, "error", err)
		}
	})
}

// offsets are those to commit: of every partition that has news, and of those in
// the transaction even if they have none, because an older message is still being
// handled. It is the commit of offsets that the group refuses when the partition
// has another owner; without one, a consumer that was lost would commit freely.
func (tx *transaction) offsets(member string, partitions map[*partition][]*dedup.Entry) map[*partition]int64 {
	offsets := map[*partition]int64{}
	for _, p := range tx.consumer.owned() {
		if next, news := p.progress.low(true); news && !p.isGone() && p.member == member {
			offsets[p] = next
		}
	}
	for p := range partitions {
		offsets[p], _ = p.progress.low(true)
	}
	return offsets
}

// remember moves the IDs of a committed transaction to the tables.
func (tx *transaction) remember() {
	now := time.Now()
	for _, it := range tx.items {
		for i, entry := range it.entries {
			p := it.deliveries[i].partition
			p.mu.Lock()
			if p.ids != nil {
				if err := p.ids.add(entry.ID, fingerprint(entry.Digest), tx.started, now); err != nil {
					// Durable, but not in memory: nothing more may be decided.
					p.broken = err
				}
			}
			delete(p.pending, entry.ID)
			p.mu.Unlock()
		}
	}
}

// messages counts the messages of the items.
func (tx *transaction) messages() (n int) {
	for _, it := range tx.items {
		n += len(it.deliveries)
	}
	return n
}

// unstage takes the items' offsets out of the watermark again.
func (tx *transaction) unstage() {
	for _, it := range tx.items {
		for _, d := range it.deliveries {
			d.partition.progress.set(d.record.Offset, open)
		}
	}
}

// graceful is a context for ending a transaction: it outlives the consumer's
// patience by a moment, so that a transaction is rather ended than left to its
// timeout.
func (tx *transaction) graceful() (context.Context, context.CancelFunc) {
	config := &tx.consumer.broker.config
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tx.ctx), config.TransactionTimeout)
	stop := context.AfterFunc(tx.ctx, func() {
		timer := time.NewTimer(config.closeTimeout())
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() { stop(); cancel() }
}

// abort ends the transaction without effect and returns why. When that cannot be
// done, a new producer does it by fencing this one.
func (tx *transaction) abort(why error) error {
	ctx, cancel := tx.graceful()
	defer cancel()
	err := tx.client.AbortBufferedRecords(ctx)
	if err == nil {
		err = tx.client.EndTransaction(ctx, kgo.TryAbort)
	}
	if tx.stale.Load() {
		tx.discard()
		tx.relook = true
	}
	if err != nil {
		tx.discard()
		return fmt.Errorf("%w (and abort: %w)", why, err)
	}
	return why
}
