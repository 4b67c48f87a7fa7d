package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// keep maintains the ledger until ctx ends.
func (l *Ledger) keep(ctx context.Context) {
	ticker := time.NewTicker(l.config.Upkeep)
	defer ticker.Stop()
	full := l.full // nil after a failure: every call would bring on the next one
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-full:
		}
		full = l.full
		if err := l.Maintain(ctx); err != nil && ctx.Err() == nil {
			full = nil
			l.config.Logger.Warn("maintain ledger: will try again", "table", l.config.Table, "every", l.config.Upkeep, "error", err)
		}
	}
}

// Maintain does all the upkeep that is due: it turns to the other hot table when
// this one is full or old, packs the marks of the one before, and drops runs whose
// window is over. Any number of processes may call it; they take the steps in
// turns, and one that dies leaves the rest to the others.
func (l *Ledger) Maintain(ctx context.Context) error {
	conn, err := l.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("maintain ledger: %w", err)
	}
	defer conn.Close()
	k := keeper{l, conn}
	alone, err := k.fence(ctx)
	if err != nil {
		return fmt.Errorf("maintain ledger: %w", err)
	}
	if !alone {
		return nil
	}
	defer k.unfence(ctx)
	for ctx.Err() == nil {
		more, err := k.step(ctx)
		if errors.Is(err, errBusy) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("maintain ledger: %w", err)
		}
		if !more {
			break
		}
	}
	return ctx.Err()
}

// errBusy: another process is at it.
var errBusy = errors.New("another process maintains the ledger")

// keeper does upkeep on one connection.
//
//	         turn                   pack…, describe, seal                clear
//	empty ──────────► full ─────────────────────────────────► stale ─────────────► empty
//
// That is the stage of the hot table not in use. turn and seal have the lock alone,
// for as long as it takes to change a row or so. clear shares it with all calls: none
// looks into a table that is stale or empty, and whoever reads that table in a long
// transaction, such as a backup, keeps it from being emptied for as long.
type keeper struct {
	*Ledger
	conn *sql.Conn
}

// progress is how far packing has come.
type progress struct {
	run             int64
	buckets, packed int
}

func (k keeper) step(ctx context.Context) (more bool, err error) {
	var seen state
	var at progress
	var turn bool
	err = k.attempt(ctx, k.conn, false, func(t *transaction) (err error) {
		if at, err = t.lockKeeper(ctx); err != nil {
			return err
		}
		seen = t.state
		switch {
		case t.stage == stageFull && at.packed < at.buckets:
			return t.pack(ctx, at)
		case t.stage == stageFull:
			return t.describe(ctx, at)
		case t.stage == stageEmpty:
			if turn, err = t.due(ctx); turn || err != nil {
				return err
			}
			more, err = t.expire(ctx)
		}
		return err
	})
	switch {
	case err != nil:
		return false, err
	case seen.stage == stageFull && at.packed < at.buckets:
		return true, nil
	case seen.stage == stageFull:
		return true, k.alone(ctx, seen, func(t *transaction) error {
			return t.enter(ctx, t.slot, stageStale, t.turnedAt)
		})
	case seen.stage == stageStale:
		return true, k.with(ctx, false, seen, func(t *transaction) error {
			if err := t.exec(ctx, t.sql.empty(t.other())); err != nil {
				return fmt.Errorf("empty %s, for which the user needs the right to TRUNCATE (MySQL: DROP), and nobody may be reading it: %w", t.other(), err)
			}
			return t.enter(ctx, t.slot, stageEmpty, t.turnedAt)
		})
	case turn:
		k.marked.Store(0)
		return true, k.alone(ctx, seen, func(t *transaction) error { return t.turn(ctx, at) })
	}
	return more, nil
}

// alone runs a step that has the lock alone.
func (k keeper) alone(ctx context.Context, seen state, work func(*transaction) error) error {
	return k.with(ctx, true, seen, work)
}

// with runs a step, unless the state has changed since it was seen: then somebody
// else took the step.
func (k keeper) with(ctx context.Context, exclusive bool, seen state, work func(*transaction) error) error {
	return k.attempt(ctx, k.conn, exclusive, func(t *transaction) error {
		if t.state != seen {
			return errBusy
		}
		if _, err := t.lockKeeper(ctx); err != nil {
			return err
		}
		return work(t)
	})
}

func (k keeper) fence(ctx context.Context) (bool, error) {
	statements, _ := k.sql.fence(k.tables)
	for i, text := range statements {
		if i < len(statements)-1 {
			if _, err := k.conn.ExecContext(ctx, text); err != nil {
				return false, err
			}
			continue
		}
		var got int
		if err := k.conn.QueryRowContext(ctx, text).Scan(&got); err != nil || got != 1 {
			k.unfence(ctx)
			return false, err
		}
	}
	return true, nil
}

// unfence is also for the session's other users; one that cannot be cleaned up is
// broken, and the pool notices.
func (k keeper) unfence(ctx context.Context) {
	_, statements := k.sql.fence(k.tables)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	for _, text := range statements {
		_, _ = k.conn.ExecContext(ctx, text)
	}
}

func (t *transaction) lockKeeper(ctx context.Context) (at progress, err error) {
	err = t.tx.QueryRowContext(ctx, t.sql.lockKeeper(t.tables)).Scan(&at.run, &at.buckets, &at.packed)
	if errors.Is(err, sql.ErrNoRows) {
		err = errBusy
	}
	return at, err
}

// enter changes the state.
func (t *transaction) enter(ctx context.Context, slot, stage int, turnedAt int64) error {
	return t.exec(ctx, fmt.Sprintf(`UPDATE %s SET epoch = epoch + 1, slot = %d, stage = %d, turned_at = %d`, t.tables.state, slot, stage, turnedAt))
}

// generations is how many runs a window has at least.
const generations = 8

// due reports whether the hot table is full, or has had rows for so long that
// they would leave late.
func (t *transaction) due(ctx context.Context) (bool, error) {
	var marks, leases int64
	err := t.tx.QueryRowContext(ctx, `SELECT COALESCE(SUM(CASE WHEN marked = `+t.sql.truth()+` THEN 1 ELSE 0 END), 0), COUNT(*) FROM `+t.hot()).Scan(&marks, &leases)
	old := t.now-t.turnedAt > millis(t.config.Window)/generations
	return marks >= int64(t.config.RunMarks) || old && leases > 0, err
}

// turn makes the other table the one in use. Leases go with it: a lease, and the
// lack of one, are always looked up in the table in use, so two copies of an event
// that arrive on both sides of a turn meet on the one row that the first of them
// has, and no two tables have to be looked at under two locks.
func (t *transaction) turn(ctx context.Context, before progress) error {
	forgotten := t.now - millis(t.config.Window) // until then their owner may still complete
	err := t.exec(ctx, fmt.Sprintf(`INSERT INTO %s (id, digest, token, expires_at, marked)
		SELECT id, digest, token, expires_at, marked FROM %s WHERE marked <> %s AND expires_at > %d`, t.other(), t.hot(), t.sql.truth(), forgotten))
	if err != nil {
		return err
	}
	var marks int64
	if err := t.tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM `+t.hot()+` WHERE marked = `+t.sql.truth()).Scan(&marks); err != nil {
		return err
	}
	// Numbers follow the time, so that one is not used again when the database
	// has been set back to an earlier state: processes remember filters by number.
	number := max(before.run+1, t.now/100)
	if err := t.exec(ctx, fmt.Sprintf(`UPDATE %s SET run = %d, buckets = %d, packed = 0`, t.tables.keeper, number, bucketsFor(marks))); err != nil {
		return err
	}
	return t.enter(ctx, 1-t.slot, stageFull, t.now)
}
