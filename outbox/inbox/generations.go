package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

// The table of marks is partitioned by generation, and what is old leaves with its
// partition: a drop of milliseconds where a DELETE of as many rows would run for
// minutes and leave its garbage behind.
//
// # The trap, and the lock
//
// A unique index on a partitioned table holds within each partition only. So two
// copies of an event could write their marks into two generations, and both take
// effect:
//
//	copy 1: reads "generation 1", inserts into 1 ............... COMMIT
//	                    the generation turns
//	copy 2:                        reads "generation 2", finds no mark
//	                               of copy 1 yet, inserts into 2, COMMIT
//
// Every transaction that writes marks therefore holds the generation open with a
// shared lock, from before it reads which one is current until its end. Turning
// takes the lock alone: it waits for those that write, and those that come wait
// for it. So whoever writes into generation 2 sees all of generation 1, and looks
// there first; and two that write at the same time write into the same one, where
// the unique index lets one of them wait for the other.
//
// A turn that does not get the lock soon gives up, so that writers do not queue
// behind it and a slow handler; the old generation then lasts a little longer,
// which costs nothing. Killed before its COMMIT, it did not happen. Killed between
// creating a partition and turning, or between dropping one and noting it, the
// next run goes on from there.

// perWindow is how many generations a window has.
const perWindow = 4

// generation is a row of the table of generations, with ages by the database's
// clock, which all processes share.
type generation struct {
	number int64
	open   bool
	age    time.Duration // since it was opened, or closed
	keep   time.Duration
}

// partitions is what differs between databases that have them.
type partitions interface {
	// lockMaintenance keeps other processes from doing the same; false: one does.
	lockMaintenance(ctx context.Context, conn *sql.Conn) (bool, error)
	unlockMaintenance(ctx context.Context, conn *sql.Conn)
	// prepare creates the partition of a generation, if it is missing.
	prepare(ctx context.Context, conn *sql.Conn, number int64) error
	// turn closes one generation and opens the next. It waits for the lock no
	// longer than patience.
	turn(ctx context.Context, conn *sql.Conn, from int64, patience time.Duration) error
	// drop removes the partition of a generation, if it is there.
	drop(ctx context.Context, conn *sql.Conn, number int64) error
}

// register makes the marks last for the window at least. Where services share a
// table, the longest of their windows counts.
func (m *marks) register(ctx context.Context) error {
	if ours, is := m.sql.(*sqliteMarks); is {
		return ours.register(ctx, m.db, m.window)
	}
	list, err := m.generations(ctx, m.db)
	if err != nil {
		return err
	}
	for _, g := range list {
		if g.open && g.keep >= m.window {
			return nil // nothing to write, so nobody to wait for
		}
	}
	// Services that start together write the same row. Under a stricter isolation, which the
	// service may have set for its own transactions, the second one would fail.
	tx, err := m.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a COMMIT it does nothing
	_, err = tx.ExecContext(ctx, m.dialect.Rebind(`UPDATE `+m.dialect.Quote(m.table.With("_generations"))+
		` SET keep_seconds = GREATEST(keep_seconds, ?) WHERE closed_at IS NULL`), int64(m.window/time.Second)+1)
	if err != nil {
		return err
	}
	return tx.Commit()
}

// maintain turns the generation when it is time, and drops generations whose
// marks are all older than the window. One process of those that share the table
// does it. It is called from time to time, a few times in a quarter of a window.
func (m *marks) maintain(ctx context.Context, group *Group) error {
	if m.dialect == sqldb.SQLite {
		return m.expire(ctx, group)
	}
	conn, err := m.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	ours := m.partitions()
	if got, err := ours.lockMaintenance(ctx, conn); err != nil || !got {
		return err
	}
	defer ours.unlockMaintenance(context.WithoutCancel(ctx), conn)
	list, err := m.generations(ctx, conn)
	if err != nil {
		return err
	}
	var errs []error
	for _, g := range list {
		switch {
		case g.open && g.age >= g.keep/perWindow:
			if err := ours.prepare(ctx, conn, g.number+1); err != nil {
				errs = append(errs, fmt.Errorf("create partition of generation %d: %w", g.number+1, err))
			} else if err := m.turn(ctx, conn, ours, g.number); err != nil {
				errs = append(errs, fmt.Errorf("close generation %d: %w", g.number, err))
			}
		case !g.open && g.age > g.keep:
			if err := ours.drop(ctx, conn, g.number); err != nil {
				errs = append(errs, fmt.Errorf("drop partition of generation %d: %w", g.number, err))
			}
		}
	}
	return errors.Join(errs...)
}

// turn is patient by and by.
func (m *marks) turn(ctx context.Context, conn *sql.Conn, ours partitions, from int64) (err error) {
	for patience := 100 * time.Millisecond; patience < 4*time.Second; patience *= 2 {
		if err = ours.turn(ctx, conn, from, patience); !sqldb.Retryable(err) || ctx.Err() != nil {
			return err
		}
	}
	return fmt.Errorf("transactions on the inbox have not let it for long enough: next try later: %w", err)
}

func (m *marks) generations(ctx context.Context, q querier) ([]generation, error) {
	age := `EXTRACT(EPOCH FROM clock_timestamp() - COALESCE(closed_at, opened_at))::bigint`
	if m.dialect == sqldb.MySQL {
		age = `TIMESTAMPDIFF(SECOND, COALESCE(closed_at, opened_at), UTC_TIMESTAMP(6))`
	}
	rows, err := q.QueryContext(ctx, `SELECT generation, closed_at IS NULL, `+age+`, keep_seconds FROM `+
		m.dialect.Quote(m.table.With("_generations"))+` ORDER BY generation`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []generation
	for rows.Next() {
		var g generation
		var age, keep int64
		if err := rows.Scan(&g.number, &g.open, &age, &keep); err != nil {
			return nil, err
		}
		g.age, g.keep = time.Duration(age)*time.Second, time.Duration(keep)*time.Second
		list = append(list, g)
	}
	return list, rows.Err()
}

func (m *marks) partitions() partitions {
	generations := m.table.With("_generations")
	if m.dialect == sqldb.Postgres {
		return postgresPartitions{m.table, generations}
	}
	return mysqlPartitions{m.table, generations}
}

// expireChunk bounds how long one transaction of expire keeps SQLite's only
// writer: a few milliseconds.
const expireChunk = 500

// expire removes expired marks of SQLite, which has no partitions.
func (m *marks) expire(ctx context.Context, group *Group) error {
	ours := m.sql.(*sqliteMarks)
	for {
		var removed int64
		err := group.Do(ctx, func(ctx context.Context, tx *sql.Tx) error {
			window, err := ours.longest(ctx, tx, m.window)
			if err != nil {
				return err
			}
			result, err := tx.ExecContext(ctx, ours.expireSQL, expireChunk, time.Now().Add(-window).UnixMilli())
			if err == nil {
				removed, err = result.RowsAffected()
			}
			return err
		})
		if err != nil || removed < expireChunk {
			return err
		}
	}
}
