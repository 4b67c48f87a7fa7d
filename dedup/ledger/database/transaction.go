package database

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hapax-go/hapax/dedup"
)

// What the hot table that is not in use has.
const (
	stageEmpty = 0 // nothing
	stageFull  = 1 // marks that are being packed; they count
	stageStale = 2 // marks that are packed, and count there
)

// state is the row that all calls agree on.
type state struct {
	epoch    int64 // changes with slot, stage and the list of runs
	slot     int   // the hot table in use
	stage    int
	turnedAt int64
}

// transaction is one in which the state does not change.
type transaction struct {
	*Ledger
	tx *sql.Tx
	state
	now int64
}

// change runs a call on entries. It tries again when another call was faster or
// the database ended the transaction for another's sake: nothing has happened then.
func (l *Ledger) change(ctx context.Context, verb string, entries []*dedup.Entry, work func(*transaction) error) error {
	if len(entries) == 0 {
		return nil
	}
	if err := l.transact(ctx, false, work); err != nil {
		return fmt.Errorf("%s %d events: %w", verb, len(entries), err)
	}
	return nil
}

const (
	maxAttempts = 30
	maxPause    = 50 * time.Millisecond
)

// transact runs work in a transaction that shares, or has alone, the lock under
// which the state changes.
func (l *Ledger) transact(ctx context.Context, exclusive bool, work func(*transaction) error) error {
	for attempt := 1; ; attempt++ {
		err := l.attempt(ctx, l.db, exclusive, work)
		if err == nil || attempt == maxAttempts || !retryable(err) {
			return err
		}
		pause := time.NewTimer(rand.N(min(time.Millisecond<<min(attempt, 10), maxPause)))
		select {
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		case <-pause.C:
		}
	}
}

func (l *Ledger) attempt(ctx context.Context, db beginner, exclusive bool, work func(*transaction) error) error {
	tx, err := l.sql.begin(ctx, db, l.tables, exclusive)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	t := &transaction{Ledger: l, tx: tx}
	err = tx.QueryRowContext(ctx, l.sql.readState(l.tables, exclusive)).Scan(&t.epoch, &t.slot, &t.stage, &t.turnedAt, &t.now)
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	if t.slot != 0 && t.slot != 1 {
		return fmt.Errorf("read state: slot is %d, expected 0 or 1: restore the table %s from before it was edited", t.slot, l.tables.state)
	}
	t.now += l.config.Clock().Milliseconds()
	if err := l.runs.load(ctx, t); err != nil {
		return err
	}
	if err := work(t); err != nil {
		return err
	}
	return tx.Commit()
}

// hot is the table in use, other the one that is not.
func (t *transaction) hot() string   { return t.tables.hot[t.slot] }
func (t *transaction) other() string { return t.tables.hot[1-t.slot] }

// readHot reads the batch's rows in the hot table in use; lock, if they are going
// to be changed.
func (t *transaction) readHot(ctx context.Context, b *batch, lock bool) error {
	return t.readSlot(ctx, b, t.sql.readHot(t.hot(), b.ids, lock), true)
}

func (t *transaction) readSlot(ctx context.Context, b *batch, query statement, hot bool) error {
	return t.eachRow(ctx, query, func(id dedup.ID, stored row) {
		if hot || stored.marked { // a lease in the other table has moved
			b.found(id, stored, hot)
		}
	})
}

// eachRow reads rows of a hot table.
func (t *transaction) eachRow(ctx context.Context, query statement, do func(dedup.ID, row)) error {
	return t.each(ctx, query, func(result *sql.Rows) error {
		var (
			id, digest sql.RawBytes
			token      int64
			stored     = row{found: true}
		)
		if err := result.Scan(&id, &digest, &token, &stored.expires, &stored.marked); err != nil {
			return err
		}
		if len(id) != 16 || len(digest) != 16 {
			return fmt.Errorf("a row has an ID of %d bytes and a digest of %d, expected 16: restore the table from before it was edited", len(id), len(digest))
		}
		stored.digest, stored.token = dedup.Digest(digest), uint64(token)
		do(dedup.ID(id), stored)
		return nil
	})
}

// readMarks looks for the marks of the IDs that are wanted where marks go after
// they have left the hot table in use.
func (t *transaction) readMarks(ctx context.Context, b *batch, wanted func(rows) bool) error {
	var ids []dedup.ID
	for i, id := range b.ids {
		if wanted(b.stored[i]) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	if t.stage == stageFull {
		if err := t.readSlot(ctx, b, t.sql.readHot(t.other(), ids, false), false); err != nil {
			return err
		}
	}
	at := t.runs.places(ids, t.now)
	if len(at) == 0 {
		return nil
	}
	places := make([]int64, 0, len(at))
	for place := range at {
		places = append(places, place)
	}
	slices.Sort(places)
	return t.each(ctx, t.sql.readPacked(t.tables, places), func(result *sql.Rows) error {
		var place int64
		var packed sql.RawBytes
		if err := result.Scan(&place, &packed); err != nil {
			return err
		}
		for _, id := range at[place] {
			if mark := searchPacked(packed, id); mark.found {
				b.found(id, mark, false)
			}
		}
		return nil
	})
}

func (t *transaction) each(ctx context.Context, query statement, row func(*sql.Rows) error) error {
	result, err := t.tx.QueryContext(ctx, query.text, query.args...)
	if err != nil {
		return err
	}
	defer result.Close()
	for result.Next() {
		if err := row(result); err != nil {
			return err
		}
	}
	return result.Err()
}

// write changes rows of the hot table, unless there are none to change.
func (t *transaction) write(ctx context.Context, of func(table string, changes []change) statement, changes []change) error {
	if len(changes) == 0 {
		return nil
	}
	s := of(t.hot(), changes)
	result, err := t.tx.ExecContext(ctx, s.text, s.args...)
	if err != nil {
		return err
	}
	count, err := result.RowsAffected()
	if err == nil && s.rows >= 0 && count != s.rows {
		return errRaced
	}
	return err
}

func (t *transaction) exec(ctx context.Context, query string) error {
	_, err := t.tx.ExecContext(ctx, query)
	return err
}
