package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/internal/sieve"
)

// generation is a part of the marks. Only the newest takes any.
type generation struct {
	number, marks, started, until int64
}

// generations is how many of them a window has at least.
const generations = 8

// turn begins a new generation when the one in use is full, or has been in use for
// so long that its marks would leave late. Those of a ledger with a longer window keep it
// for that long anyhow. It is part of the caller's transaction, which has the write lock,
// so nobody marks an ID meanwhile.
func (l *Ledger) turn(ctx context.Context, q Querier, current generation, now int64) (generation, error) {
	old := now-current.started > max(millis(l.window), current.until-now)/generations
	if current.marks == 0 || current.marks < int64(l.size) && !old {
		return current, nil
	}
	return l.begin(ctx, q, current, now)
}

func (l *Ledger) begin(ctx context.Context, q Querier, current generation, now int64) (generation, error) {
	filter := sieve.NewFilter(current.marks)
	err := each(ctx, q, l.sql.ids, []any{current.number}, func(result *sql.Rows) error {
		var id sql.RawBytes
		if err := result.Scan(&id); err != nil {
			return err
		}
		if len(id) != 16 {
			return fmt.Errorf("a mark has an ID of %d bytes, expected 16: restore the table from before it was edited", len(id))
		}
		filter.Add(dedup.ID(id))
		return nil
	})
	if err != nil {
		return current, fmt.Errorf("seal generation: %w", err)
	}
	if _, err := q.ExecContext(ctx, l.sql.seal, []byte(filter), current.number); err != nil {
		return current, fmt.Errorf("seal generation: %w", err)
	}
	// The transaction may yet be rolled back, and another one seal the same
	// generation with other marks in it. What is known of the generations is known
	// by the number of the newest, so that number must not come twice: it is the
	// time, so that numbers grow, and chance.
	next := generation{number: max(current.number, now<<20) + 1 + rand.Int64N(1<<20), started: now}
	if _, err := q.ExecContext(ctx, l.sql.open, next.number, next.started); err != nil {
		return current, fmt.Errorf("begin generation: %w", err)
	}
	return next, nil
}

// older is what a process knows of the generations that are sealed: their filters,
// as they were when a certain one was the newest. They never change.
type older struct {
	mutex  sync.Mutex
	newest int64
	sieve  sieve.Sieve
}

// places returns entry, generation, entry, generation… where older marks of the
// entries may be; of those only that have no mark yet.
func (o *older) places(ctx context.Context, l *Ledger, q Querier, newest int64, entries []*dedup.Entry, found []rows, now int64) ([]int64, error) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if o.newest != newest {
		if err := o.load(ctx, l, q, newest, now); err != nil {
			return nil, fmt.Errorf("read generations: %w", err)
		}
		o.newest = newest
	}
	var places []int64
	for i, entry := range entries {
		if !found[i].mark.found {
			o.sieve.Candidates(entry.ID, func(number int64) { places = append(places, int64(i), number) })
		}
	}
	return places, nil
}

func (o *older) load(ctx context.Context, l *Ledger, q Querier, newest, now int64) error {
	o.newest = 0
	var list []int64
	err := each(ctx, q, l.sql.sealed, []any{newest, now}, func(result *sql.Rows) error {
		var number int64
		err := result.Scan(&number)
		list = append(list, number)
		return err
	})
	if err != nil {
		return err
	}
	for _, number := range o.sieve.Keep(list) {
		var filter sieve.Filter
		err := each(ctx, q, l.sql.filter, []any{number}, func(result *sql.Rows) error { return result.Scan((*[]byte)(&filter)) })
		if err == nil && !filter.Valid() {
			err = fmt.Errorf("filter of generation %d has %d bytes, expected a power of two: restore the tables from before they were edited", number, len(filter))
		}
		if err != nil {
			return err
		}
		o.sieve.Add(number, filter)
	}
	return nil
}
