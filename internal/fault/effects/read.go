package effects

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/hapax-go/hapax/internal/fault"
)

// Read returns every effect, in the order of commits: SQLite lets one writer in
// at a time, so the row numbers rise with the commits.
func Read(ctx context.Context, db *sql.DB) ([]fault.Effect, error) {
	return read(ctx, db, `SELECT seq, event_id, event_key, n, consumer FROM effects ORDER BY seq`,
		func(e *fault.Effect) []any { return []any{&e.Position, &e.ID, &e.Key, &e.Seq, &e.Consumer} })
}

// ReadDeliveries returns every delivery, in no order.
func ReadDeliveries(ctx context.Context, db *sql.DB) ([]fault.Delivery, error) {
	return read(ctx, db, `SELECT event_id, copy, consumer, attempt FROM deliveries`,
		func(d *fault.Delivery) []any { return []any{&d.ID, &d.Copy, &d.Consumer, &d.Attempt} })
}

func read[T any](ctx context.Context, db *sql.DB, query string, fields func(*T) []any) (all []T, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("read effects: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var one T
		if err := rows.Scan(fields(&one)...); err != nil {
			return nil, fmt.Errorf("read effects: %w", err)
		}
		all = append(all, one)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read effects: %w", err)
	}
	return all, nil
}

// Count is how far the work has come.
type Count struct {
	// Effects and Deliveries count rows; Events counts events with at least one
	// effect.
	Effects, Events, Deliveries int64
}

// Progress counts effects, cheaply enough to be asked every few milliseconds: it
// looks at the last row only, and no row is ever deleted.
func Progress(ctx context.Context, db *sql.DB) (count int64, err error) {
	if err := db.QueryRowContext(ctx, `SELECT COALESCE(MAX(seq), 0) FROM effects`).Scan(&count); err != nil {
		return 0, fmt.Errorf("count effects: %w", err)
	}
	return count, nil
}

// ReadCount counts without reading every row's content, for progress.
func ReadCount(ctx context.Context, db *sql.DB) (count Count, err error) {
	err = db.QueryRowContext(ctx, `SELECT (SELECT COUNT(*) FROM effects), (SELECT COUNT(DISTINCT event_id) FROM effects), (SELECT COUNT(*) FROM deliveries)`).
		Scan(&count.Effects, &count.Events, &count.Deliveries)
	if err != nil {
		return Count{}, fmt.Errorf("count effects: %w", err)
	}
	return count, nil
}
