package sqlite

import (
	"context"
	"database/sql"
	"fmt"
)

// expireChunk bounds how long one transaction of Expire keeps other writers
// waiting: a few milliseconds.
const expireChunk = 200

// Expire removes marks whose window is over, and leases that ran out a window
// ago (until then their owner, however slow, may still complete), and returns
// how many. It stops at limit rows; 0 or less: when there are no more. Expired
// rows count as absent whether they were removed or not, so how often it runs
// matters to the file's size only.
//
// Marks are removed by generations: a generation waits for its last mark to expire.
func (l *Ledger) Expire(ctx context.Context, limit int) (int, error) {
	removed := 0
	for more := true; more && (limit <= 0 || removed < limit); {
		chunk := expireChunk
		if limit > 0 {
			chunk = min(chunk, limit-removed)
		}
		var count int
		var err error
		count, more, err = l.expire(ctx, chunk)
		if err != nil {
			return removed, fmt.Errorf("expire ledger rows: %w", err)
		}
		removed += count
	}
	return removed, nil
}

// expire removes a chunk of marks, of what reports show of them, and of leases.
func (l *Ledger) expire(ctx context.Context, chunk int) (removed int, more bool, err error) {
	err = l.locked(ctx, func(q Querier, now int64) error {
		if removed, err = l.expireMarks(ctx, q, chunk, now); err != nil {
			return err
		}
		leases, err := count(ctx, q, l.sql.expireLeases, now-millis(l.window), chunk-removed)
		if err != nil {
			return err
		}
		removed += leases
		logged, err := count(ctx, q, l.sql.expireLog, now, expireChunk)
		more = removed+logged > 0
		return err
	})
	if err != nil {
		return 0, false, err
	}
	return removed, more, nil
}

// expireMarks removes a chunk of marks, of as many generations as it takes.
func (l *Ledger) expireMarks(ctx context.Context, q Querier, chunk int, now int64) (removed int, err error) {
	for more := true; more && err == nil && removed < chunk; {
		var marks int
		marks, more, err = l.expireOldest(ctx, q, chunk-removed, now)
		removed += marks
	}
	return removed, err
}

// expireOldest removes marks of a generation whose last mark has expired, and it when it
// is empty. It reports whether there was one.
func (l *Ledger) expireOldest(ctx context.Context, q Querier, chunk int, now int64) (removed int, found bool, err error) {
	var oldest generation
	var inUse bool
	err = each(ctx, q, l.sql.oldest, []any{now}, func(result *sql.Rows) error {
		return result.Scan(&oldest.number, &oldest.marks, &oldest.until, &inUse)
	})
	if err != nil || oldest.number == 0 {
		return 0, false, err
	}
	if inUse {
		if _, err := l.begin(ctx, q, oldest, now); err != nil {
			return 0, false, err
		}
	}
	removed, err = count(ctx, q, l.sql.expireMarks, oldest.number, chunk)
	if err == nil && removed < chunk {
		_, err = q.ExecContext(ctx, l.sql.dropGeneration, oldest.number)
	}
	return removed, true, err
}

func count(ctx context.Context, q Querier, query string, args ...any) (int, error) {
	result, err := q.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	changed, err := result.RowsAffected()
	return int(changed), err
}
