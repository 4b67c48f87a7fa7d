package database

import (
	"context"
	"database/sql"
	"fmt"
	"sync"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/internal/sieve"
)

// run is a packed run of marks. It never changes.
type run struct {
	number  int64
	buckets int
	expires int64 // of its last mark
}

// runs is what a process knows of the runs: the list at an epoch, in the form of
// its filters.
type runs struct {
	mutex sync.RWMutex
	epoch int64
	list  map[int64]run
	sieve sieve.Sieve
}

// load brings the list up to the transaction's epoch. The epoch was read under
// the lock, so the list stays true until the transaction ends.
func (r *runs) load(ctx context.Context, t *transaction) error {
	r.mutex.RLock()
	current := r.epoch == t.epoch
	r.mutex.RUnlock()
	if current {
		return nil
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.epoch == t.epoch { // by another caller
		return nil
	}
	list, numbers := map[int64]run{}, []int64(nil)
	err := t.each(ctx, statement{text: `SELECT number, buckets, expires_at FROM ` + t.tables.runs}, func(result *sql.Rows) error {
		var one run
		if err := result.Scan(&one.number, &one.buckets, &one.expires); err != nil {
			return err
		}
		if one.buckets < 1 || one.buckets > maxBuckets {
			return fmt.Errorf("run %d has %d buckets, expected 1 to %d: restore the table from before it was edited", one.number, one.buckets, maxBuckets)
		}
		list[one.number] = one
		numbers = append(numbers, one.number)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read list of runs: %w", err)
	}
	for _, number := range r.sieve.Keep(numbers) {
		var bits sieve.Filter
		err := t.tx.QueryRowContext(ctx, fmt.Sprintf(`SELECT filter FROM %s WHERE number = %d`, t.tables.runs, number)).Scan((*[]byte)(&bits))
		if err != nil {
			return fmt.Errorf("read filter of run %d: %w", number, err)
		}
		if !bits.Valid() {
			return fmt.Errorf("filter of run %d has %d bytes, expected a power of two: restore the table from before it was edited", number, len(bits))
		}
		r.sieve.Add(number, bits)
	}
	r.list = list
	r.epoch = t.epoch
	return nil
}

// places returns the rows in which the IDs may be, and which of them in each.
func (r *runs) places(ids []dedup.ID, now int64) map[int64][]dedup.ID {
	r.mutex.RLock()
	defer r.mutex.RUnlock()
	at := map[int64][]dedup.ID{}
	for _, id := range ids {
		r.sieve.Candidates(id, func(number int64) {
			if one := r.list[number]; one.expires > now {
				place := placeOf(one.number, bucketOf(id, one.buckets))
				at[place] = append(at[place], id)
			}
		})
	}
	return at
}
