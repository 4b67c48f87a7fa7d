package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hapax-go/hapax/dedup"
)

// stretch is a part of a log's partition: from an offset up to another, excluded.
type stretch struct{ from, to int64 }

// restore fills the tables of newly assigned partitions, in the background. Claims
// on their messages wait for it.
//
// Not any more when the transactor is closing, which waits for what was begun: that is
// decided under the consumer's lock, so that nothing is added to what is waited for.
func (t *transactor) restore(partitions []*partition) {
	t.consumer.mu.Lock()
	defer t.consumer.mu.Unlock()
	select {
	case <-t.closing:
		return
	default:
	}
	var fresh []*partition
	for _, p := range partitions {
		p.mu.Lock()
		if !p.restoring && !p.gone {
			p.restoring = true
			fresh = append(fresh, p)
		}
		p.mu.Unlock()
	}
	if len(fresh) == 0 {
		return
	}
	t.restoring.Go(func() {
		for pause := 10 * time.Millisecond; len(fresh) > 0 && t.ctx.Err() == nil; pause = min(2*pause, time.Second) {
			err := t.load(fresh)
			if err == nil {
				return
			}
			var waiting []*partition
			for _, p := range fresh {
				switch {
				case p.isGone(), p.isRestored():
				case errors.Is(err, errLogBroken):
					p.restoredWith(nil, err)
				default:
					waiting = append(waiting, p)
				}
			}
			fresh = waiting
			if t.ctx.Err() == nil {
				t.consumer.logger.Error("restore processed IDs", "log", t.consumer.idLog, "partitions", len(partitions), "error", err)
			}
			select {
			case <-time.After(pause):
			case <-t.ctx.Done():
			}
		}
	})
}

// load reads the logs of partitions as far as they go now. That is far enough: an
// owner of before logs its IDs before it commits offsets, and since the group has
// taken the partition from it, it commits no offsets any more. The end that counts
// is the end of what is written, not of what is committed: a transaction that is
// still open may yet commit, and reading waits for it.
func (t *transactor) load(partitions []*partition) error {
	c := t.consumer
	began := time.Now()
	stretches, err := c.broker.extent(t.ctx, c.idLog)
	short := err == nil && slices.ContainsFunc(partitions, func(p *partition) bool { return int(p.number) >= len(stretches) })
	if short || errors.Is(err, kerr.UnknownTopicOrPartition) {
		// The topic was given more partitions, or somebody has deleted the log.
		if err = c.broker.readyIDLog(t.ctx, c.idLog, c.name, t.window); err == nil {
			stretches, err = c.broker.extent(t.ctx, c.idLog)
		}
	}
	if err != nil {
		return err
	}
	wanted := map[int32]stretch{}
	tables := map[int32]*idTable{}
	byNumber := map[int32]*partition{}
	finish := func(number int32) {
		if byNumber[number].restoredWith(tables[number], nil) {
			delete(tables, number) // its memory is the partition's to give back
		}
	}
	defer func() { // what nobody took
		for _, table := range tables {
			c.broker.idMemory.Add(-table.bytes())
		}
	}()
	var total int64
	for _, p := range partitions {
		s, found := stretches[p.number]
		if !found {
			return fmt.Errorf("log of processed IDs %q has no partition %d", c.idLog, p.number)
		}
		tables[p.number] = newIDTable(t.window, c.broker.allocate)
		byNumber[p.number] = p
		if s.from < s.to {
			wanted[p.number] = s
			total += s.to - s.from
		} else {
			finish(p.number)
		}
	}
	read, ids, told := int64(0), 0, began
	err = c.broker.readLog(t.ctx, c.idLog, wanted, func(r *kgo.Record) error {
		now := time.Now()
		read++
		if now.Sub(told) > 2*time.Second {
			told = now
			c.logger.Info("restoring processed IDs", "log", c.idLog, "records", read, "of", total, "ids", ids)
		}
		if now.Sub(r.Timestamp) > t.window {
			return nil
		}
		table := tables[r.Partition]
		err := readIDs(r.Value, func(id dedup.ID, digest [4]byte) error {
			ids++
			return table.add(id, digest, r.Timestamp, now)
		})
		if err != nil {
			return fmt.Errorf("%w: %s/%d@%d: %w", errLogBroken, c.idLog, r.Partition, r.Offset, err)
		}
		return nil
	}, finish)
	if err == nil {
		c.logger.Info("restored processed IDs", "log", c.idLog, "partitions", len(partitions), "records", read, "ids", ids, "took", time.Since(began).Round(time.Millisecond))
	}
	return err
}

// allocate counts the memory of tables.
func (b *Broker) allocate(more int64) error {
	if total := b.idMemory.Add(more); total > b.config.MaxIDMemory {
		b.idMemory.Add(-more)
		return fmt.Errorf("%w: the processed IDs of the window need more than the %d MiB allowed: make dedup.window shorter, give this process more memory for IDs, or spread the partitions over more consumers",
			errLogBroken, b.config.MaxIDMemory>>20)
	}
	return nil
}

func (p *partition) isRestored() bool {
	select {
	case <-p.restored:
		return true
	default:
		return false
	}
}

// restoredWith lets claims go on, with a table or an error, and reports whether the
// partition took it. A table that it took it gives back when it is lost, which may be at
// once.
func (p *partition) restoredWith(table *idTable, err error) (taken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isRestored() {
		return false
	}
	close(p.restored)
	if p.gone {
		return false
	}
	p.ids, p.broken = table, err
	return true
}

// awaitIDs waits until the partition's processed IDs are known.
func (p *partition) awaitIDs(ctx context.Context) error {
	if !p.isRestored() {
		select {
		case <-p.restored:
		case <-p.ctx.Done():
			return errRevoked
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.undecidable()
}

// undecidable is why nothing can be said about an ID, after the IDs were restored; nil
// when the table is complete. The caller holds p.mu until it has looked there.
func (p *partition) undecidable() error {
	switch {
	case p.broken != nil:
		return p.broken
	case p.gone || p.ids == nil:
		return errRevoked
	}
	return nil
}

// extent returns how far the partitions of a log go: to the end of what is
// written, committed or not.
func (b *Broker) extent(ctx context.Context, log string) (map[int32]stretch, error) {
	starts, err := b.admin.ListStartOffsets(ctx, log)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("find the start of %q: %w", log, err)
	}
	ends, err := b.admin.ListEndOffsets(ctx, log)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("find the end of %q: %w", log, err)
	}
	stretches := map[int32]stretch{}
	for number, end := range ends[log] {
		start, _ := starts.Lookup(log, number)
		stretches[number] = stretch{start.Offset, end.Offset}
	}
	return stretches, nil
}

// readLog calls each for the committed records of the stretches, and finished for
// a partition that was read to its end. It waits for open transactions.
func (b *Broker) readLog(ctx context.Context, log string, stretches map[int32]stretch, each func(*kgo.Record) error, finished func(int32)) error {
	if len(stretches) == 0 {
		return nil
	}
	from := map[int32]kgo.Offset{}
	for number, s := range stretches {
		from[number] = kgo.NewOffset().At(s.from)
	}
	client, err := b.config.newClient(roleReader,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{log: from}),
		// The start may be deleted meanwhile, because it is out of the window.
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// An aborted record is not seen; the marker that ends it is.
		kgo.KeepControlRecords(),
		kgo.FetchMaxWait(100*time.Millisecond),
	)
	if err != nil {
		return fmt.Errorf("open reader of %q: %w", log, err)
	}
	defer client.Close()
	for left := len(stretches); left > 0; {
		round, cancel := context.WithTimeout(ctx, time.Second)
		fetches := client.PollFetches(round)
		cancel()
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if fetches.NumRecords() == 0 {
			over, err := b.deleted(ctx, log, stretches)
			if err != nil {
				return err
			}
			for _, number := range over {
				delete(stretches, number)
				left--
				finished(number)
			}
		}
		for _, failed := range fetches.Errors() {
			if errors.Is(failed.Err, context.DeadlineExceeded) {
				continue // nothing came in this round
			}
			return fmt.Errorf("read %s/%d: %w", failed.Topic, failed.Partition, failed.Err)
		}
		var failure error
		fetches.EachPartition(func(fetched kgo.FetchTopicPartition) {
			s, wanted := stretches[fetched.Partition]
			for _, r := range fetched.Records {
				if !wanted || failure != nil {
					return
				}
				if !r.Attrs.IsControl() && r.Offset < s.to {
					failure = each(r)
				}
				if r.Offset >= s.to-1 {
					delete(stretches, fetched.Partition)
					wanted = false
					left--
					client.PauseFetchPartitions(map[string][]int32{log: {fetched.Partition}})
					if failure == nil {
						finished(fetched.Partition)
					}
				}
			}
		})
		if failure != nil {
			return failure
		}
	}
	return nil
}

// deleted lists the partitions of which a stretch has nothing left to read: all of it was
// deleted, because it is out of the window. If nothing follows it, no record will tell.
func (b *Broker) deleted(ctx context.Context, log string, stretches map[int32]stretch) (over []int32, err error) {
	starts, err := b.admin.ListStartOffsets(ctx, log)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("find the start of %q: %w", log, err)
	}
	for number, s := range stretches {
		if start, found := starts.Lookup(log, number); found && start.Offset >= s.to {
			over = append(over, number)
		}
	}
	return over, nil
}

// readable reports whether a record of a transaction that has ended was committed.
func (b *Broker) readable(ctx context.Context, record *kgo.Record) (committed bool, err error) {
	at := map[int32]stretch{record.Partition: {record.Offset, record.Offset + 1}}
	err = b.readLog(ctx, record.Topic, at, func(r *kgo.Record) error {
		committed = committed || r.Offset == record.Offset
		return nil
	}, func(int32) {})
	if err != nil {
		return false, fmt.Errorf("find out how a transaction ended: %w", err)
	}
	return committed, nil
}
