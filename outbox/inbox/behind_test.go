package inbox_test

import (
	"context"
	"database/sql"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// together has functions run in turns that wait for the same transaction, in their order.
func together(t *testing.T, group *inbox.Group, run ...func(context.Context, *sql.Tx) error) (errs []error) {
	free := occupy(t, group)
	errs = make([]error, len(run))
	var all sync.WaitGroup
	for i, run := range run {
		all.Go(func() {
			turn := group.NewTurn("event")
			tx, err := turn.Tx(t.Context())
			if err == nil {
				err = run(t.Context(), tx)
			}
			if err == nil {
				err = turn.Commit(t.Context(), func(context.Context, *sql.Tx) error { return nil })
			}
			turn.Release()
			errs[i] = err
		})
		require.Eventually(t, func() bool { return group.Queued() == i+1 }, 10*time.Second, time.Millisecond)
	}
	require.NoError(t, free())
	all.Wait()
	return errs
}

func inserting(name string) func(context.Context, *sql.Tx) error {
	return func(ctx context.Context, tx *sql.Tx) error { return insert(ctx, tx, name) }
}

// Turns that a group is too old for have the next ones, and those before them their commit.
func TestTurnsThatAGroupHasNoTimeForComeNext(t *testing.T) {
	db, group := open(t, inbox.Config{MaxAge: 1})
	require.Equal(t, make([]error, 3), together(t, group, inserting("a"), inserting("b"), inserting("c")))
	require.Equal(t, []string{"a", "b", "c"}, written(t, db))
}

// Who waits behind a handler that changes the connection has another one.
func TestATurnBehindAChangedConnection(t *testing.T) {
	db, group := open(t, inbox.Config{})
	closing := func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `PRAGMA query_only = ON`)
		return err
	}
	require.Equal(t, make([]error, 3), together(t, group, inserting("a"), closing, inserting("b")))
	require.Equal(t, []string{"a", "b"}, written(t, db))
}

// Who waits behind a transaction that is lost has the next one.
func TestATurnBehindALostTransaction(t *testing.T) {
	db, group := open(t, inbox.Config{})
	require.NoError(t, group.Do(t.Context(), inserting("a")))
	free := occupy(t, group)
	var all sync.WaitGroup
	all.Go(func() {
		assert.ErrorIs(t, group.Do(t.Context(), func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT OR ROLLBACK INTO effects (name) VALUES ('a')`)
			return err
		}), inbox.ErrRolledBack)
	})
	require.Eventually(t, func() bool { return group.Queued() == 1 }, 10*time.Second, time.Millisecond)
	all.Go(func() {
		turn := group.NewTurn("event")
		tx, err := turn.Tx(t.Context())
		if assert.NoError(t, err) {
			assert.NoError(t, insert(t.Context(), tx, "b"))
			assert.NoError(t, turn.Commit(t.Context(), func(context.Context, *sql.Tx) error { return nil }))
		}
	})
	require.Eventually(t, func() bool { return group.Queued() == 2 }, 10*time.Second, time.Millisecond)
	_ = free() // it shares the transaction
	all.Wait()
	require.Equal(t, []string{"a", "b"}, written(t, db))
}

// A handler that asks for the transaction, writes nothing and fails leaves no mark in the
// transaction of whoever gets the connection next.
func TestAHandlerThatFailsBeforeItWritesLeavesNoMark(t *testing.T) {
	eachDatabase(t, func(r *rig) {
		p := r.process(configured(func(c *inbox.Config) { c.Connections = 1 }))
		p.db.SetMaxOpenConns(2)
		fails := p.handler(func(ctx context.Context, _ string) error {
			_, err := inbox.Tx(ctx)
			require.NoError(r.t, err)
			return errRefused
		})
		good := p.handler(r.effect)
		for range 3 {
			require.ErrorIs(r.t, fails.deliver("a", "payload"), errRefused)
			good.insist("b")
		}
		require.NoError(r.t, good.deliver("a", "payload"))
		r.exact(2)
	})
}

// An event whose handler uses no transaction comes through beside one whose handler fails.
func TestAnEventWithoutTxBesideOneThatFails(t *testing.T) {
	for _, dialect := range []sqldb.Dialect{sqldb.Postgres, sqldb.MySQL} {
		r := newRigOn(t, dialect)
		p := r.process(configured(func(c *inbox.Config) { c.Connections = 1 }))
		fails := p.once(func(context.Context) error { return errRefused })
		plain := p.handler(func(context.Context, string) error { return nil })
		deliver := func(id string) func() { return func() { assert.NoError(t, plain.deliver(id, "payload")) } }
		p.shared(deliver("before"), func() { fails.insist("fails") }, deliver("behind"))
		require.Equal(t, 4, r.number(`SELECT count(*) FROM hapax_inbox`))
		require.Equal(t, 4, r.number(`SELECT count(*) FROM hapax_outbox`))
	}
}
