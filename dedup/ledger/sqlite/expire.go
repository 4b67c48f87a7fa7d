package sqlite

import (
	"context"
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
// Marks are removed in the order in which they were made. After Config.Window
// was made shorter, marks of the longer window keep newer ones waiting behind
// them.
func (l *Ledger) Expire(ctx context.Context, limit int) (int, error) {
	removed := 0
	for limit <= 0 || removed < limit {
		chunk := expireChunk
		if limit > 0 {
			chunk = min(chunk, limit-removed)
		}
		count, err := l.expire(ctx, chunk)
		if err != nil {
			return removed, fmt.Errorf("expire ledger rows: %w", err)
		}
		if removed += count; count == 0 {
			break
		}
	}
	return removed, nil
}

func (l *Ledger) expire(ctx context.Context, chunk int) (removed int, err error) {
	err = l.locked(ctx, func(q Querier, now int64) error {
		for _, step := range []struct {
			query string
			until int64
		}{
			{l.sql.expireMarks, now},
			{l.sql.expireLeases, now - millis(l.window)},
		} {
			result, err := q.ExecContext(ctx, step.query, step.until, chunk-removed)
			if err != nil {
				return err
			}
			count, err := result.RowsAffected()
			if err != nil {
				return err
			}
			removed += int(count)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return removed, nil
}
