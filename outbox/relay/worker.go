package relay

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/cenkalti/backoff/v5"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
)

// worker publishes some of a relay's shards, one round after the other.
type worker struct {
	relay  *Relay
	number int
	wake   chan struct{}
	// after is the last shard of the last round, when that was full: the next one
	// begins behind it, so that a shard with many rows does not starve the others.
	after int
	// limit is how many rows the next claim asks for, if they were large; else 0. What a
	// database has begun to send it sends to the end.
	limit int
	// held are the keys that wait because a row of theirs failed.
	held map[unit]*hold
	// rests are the topics that wait because the broker refuses them.
	rests map[string]*rest
	// looked is when the round began: what is due later its claim does not see.
	looked time.Time
	// again are rows that may have been published before, since an earlier try
	// of this worker ended in an error.
	again map[int64]bool
}

func (w *worker) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *worker) run(ctx context.Context) {
	pause := w.relay.patience()
	for ctx.Err() == nil {
		found, err := w.round(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			w.relay.trouble(w.part(), err)
			sleep(ctx, pause.NextBackOff())
			continue
		case err == nil && (found > 0 || !w.suspects()):
			pause.Reset()
			w.relay.cured(w.part())
		}
		if found > 0 {
			continue
		}
		select {
		case <-ctx.Done():
		case <-w.wake:
		case <-w.due():
		}
	}
}

// round publishes one batch and returns how many rows it found.
func (w *worker) round(ctx context.Context) (found int, err error) {
	w.looked = time.Now()
	leases, err := w.leases(ctx)
	if err != nil {
		return 0, err
	}
	batch, read, err := w.claim(ctx, leases)
	if err != nil {
		return 0, err
	}
	w.forget(leases, batch, read)
	if len(batch) == 0 {
		return 0, nil
	}
	w.relay.found.Add(int64(len(batch)))
	w.relay.stats.rounds.Add(1)
	if err := failpoint.Hit(failpoint.RelayClaimed); err != nil {
		return 0, err
	}
	byShard := make(map[int]lease, len(leases))
	for _, lease := range leases {
		byShard[lease.shard] = lease
	}
	p := &publication{worker: w, leases: byShard, failed: map[unit]bool{}, topics: map[string]*part{}}
	// What was begun is finished even if the relay is to stop: a row that was
	// published and not settled would be published again.
	err = p.publish(context.WithoutCancel(ctx), w.ready(batch))
	return len(batch), err
}

// suspects reports whether keys are held and nobody can be asked whether the broker is
// away: that there is nothing else to publish then does not tell that it is back.
func (w *worker) suspects() bool { return w.relay.config.Ping == nil && len(w.held) > 0 }

// leases are those the worker may use now; those that others wait for it gives
// back, since nothing of them is under way here.
func (w *worker) leases(ctx context.Context) ([]lease, error) {
	usable, leaving := w.relay.leases.of(w.number, len(w.relay.workers))
	if len(leaving) > 0 {
		if err := w.relay.leases.release(ctx, leaving); err != nil {
			return nil, err
		}
	}
	return usable, nil
}

// claim reads the next batch, and tells which shards it read to their end. It writes
// nothing: the lease is the claim.
func (w *worker) claim(ctx context.Context, leases []lease) (batch []claimed, read map[int]bool, err error) {
	hidden := w.hidden(w.looked)
	for _, behind := range []bool{true, false} {
		var shards []int
		for _, lease := range leases {
			if !behind || lease.shard > w.after {
				shards = append(shards, lease.shard)
			}
		}
		if len(shards) == 0 {
			continue
		}
		limit := cmp.Or(w.limit, w.relay.config.Batch)
		var more, large bool
		batch, more, large, err = w.relay.table.waiting(ctx, shards, limit, hidden)
		if err != nil {
			return nil, nil, err
		}
		w.after = -1
		switch {
		case large:
			w.limit = len(batch)
		case more:
			w.limit = min(2*limit, w.relay.config.Batch)
		}
		if more {
			w.after = batch[len(batch)-1].shard
		}
		if len(batch) > 0 || len(shards) == len(leases) {
			return batch, toTheirEnd(shards, w.after), nil
		}
	}
	return nil, nil, nil
}

// toTheirEnd are those of the shards of a claim that it read whole: if its batch was
// full it ended in the middle of a shard and has not seen those behind.
func toTheirEnd(shards []int, last int) map[int]bool {
	read := map[int]bool{}
	for _, shard := range shards {
		read[shard] = last < 0 || shard < last
	}
	return read
}

// send publishes rows of one topic and settles them.
func (w *worker) send(ctx context.Context, topic string, rows []claimed) error {
	messages := make([]*message.Message, len(rows))
	for i, row := range rows {
		messages[i] = row.message
		if row.attempts > 0 || w.again[row.id] {
			messages[i] = row.message.Copy() // the publisher may still hold the first
			messages[i].Metadata.Set(dedup.MetaRelayAttempt, strconv.Itoa(row.attempts+1))
		}
	}
	if err := w.relay.config.Publisher.Publish(topic, messages...); err != nil {
		w.doubt(rows)
		return err
	}
	if err := failpoint.Hit(failpoint.RelaySent); err != nil {
		return err
	}
	w.relay.stats.published.Add(int64(len(rows)))
	return nil
}

// settle records what is published. Trying again is cheaper than publishing
// again, but not for longer than until another relay may do so.
func (w *worker) settle(ctx context.Context, rows []claimed) error {
	if len(rows) == 0 {
		return nil
	}
	ids := make([]int64, len(rows))
	for i, row := range rows {
		ids[i] = row.id
	}
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		return struct{}{}, w.relay.table.settle(ctx, ids, w.relay.config.Retention > 0)
	}, backoff.WithBackOff(w.relay.patience()), backoff.WithMaxElapsedTime(w.relay.config.Lease))
	if err != nil {
		w.doubt(rows)
		return fmt.Errorf("%d rows are published and will be again: %w", len(ids), err)
	}
	for _, id := range ids {
		delete(w.again, id)
	}
	return nil
}

// doubt notes rows that may be published by now, so that consumers can tell where
// copies come from. Nothing depends on it, so it may forget.
func (w *worker) doubt(rows []claimed) {
	if len(w.again) > 10*w.relay.config.Batch {
		clear(w.again)
	}
	for _, row := range rows {
		w.again[row.id] = true
	}
}

// due fires when the first held key, or topic that rests, is to be tried again.
func (w *worker) due() <-chan time.Time {
	var first time.Time
	earlier := func(until time.Time) {
		if first.IsZero() || until.Before(first) {
			first = until
		}
	}
	for topic, rest := range w.rests {
		if w.resting(topic, w.looked) {
			earlier(rest.until)
		}
	}
	for _, hold := range w.held {
		if !w.resting(hold.topic, hold.until) {
			earlier(hold.until)
		}
	}
	if first.IsZero() {
		return nil
	}
	return time.After(time.Until(first))
}
