package inbox_test

import (
	"context"
	"database/sql"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/outbox/inbox"
)

func TestTurnCommitsWithItsStep(t *testing.T) {
	db, group := open(t, inbox.Config{})
	turn := group.NewTurn("event")
	ctx := inbox.WithTurn(t.Context(), turn)
	tx, err := inbox.Tx(ctx)
	require.NoError(t, err)
	require.NoError(t, insert(ctx, tx, "handler"))
	again, err := inbox.Tx(ctx)
	require.NoError(t, err)
	require.Same(t, tx, again)
	require.Empty(t, written(t, db), "visible before the commit")
	require.NoError(t, turn.Commit(ctx, func(ctx context.Context, tx *sql.Tx) error { return insert(ctx, tx, "step") }))
	require.Equal(t, []string{"handler", "step"}, written(t, db))
	_, err = tx.ExecContext(ctx, `INSERT INTO effects (name) VALUES ('late')`)
	require.Error(t, err)
	_, err = inbox.Tx(ctx)
	require.Error(t, err)
}

func TestTurnsShareACommitAndFailAlone(t *testing.T) {
	db, group := open(t, inbox.Config{})
	free := occupy(t, group)
	var all sync.WaitGroup
	run := func(name string, step error, want error) {
		turn := group.NewTurn("event")
		ctx := inbox.WithTurn(t.Context(), turn)
		all.Go(func() {
			tx, err := inbox.Tx(ctx)
			require.NoError(t, err)
			require.NoError(t, insert(ctx, tx, name))
			require.ErrorIs(t, turn.Commit(ctx, func(context.Context, *sql.Tx) error { return step }), want)
		})
	}
	run("a", nil, nil)
	run("bad", errRefused, errRefused)
	run("b", nil, nil)
	all.Go(func() { // a handler that failed, or panicked
		turn := group.NewTurn("event")
		ctx := inbox.WithTurn(t.Context(), turn)
		tx, err := inbox.Tx(ctx)
		require.NoError(t, err)
		require.NoError(t, insert(ctx, tx, "released"))
		turn.Release()
	})
	require.NoError(t, free())
	all.Wait()
	require.Equal(t, []string{"a", "b"}, written(t, db))
}

// Turns may leave their last step to a batch. If it fails for one of them, that one
// learns why, and the others that they can try again; nothing of them remains.
func TestTurnsShareTheirLastStep(t *testing.T) {
	db, group := open(t, inbox.Config{MaxAge: time.Hour})
	sizes := []int{}
	batch := inbox.NewBatch(group, func(ctx context.Context, tx *sql.Tx, names []string) error {
		sizes = append(sizes, len(names))
		for _, name := range names {
			if name == "bad" {
				return errRefused
			}
			if err := insert(ctx, tx, "last "+name); err != nil {
				return err
			}
		}
		return nil
	})
	together := func(names ...string) map[string]error {
		free := occupy(t, group)
		var mu sync.Mutex
		outcomes := map[string]error{}
		var all sync.WaitGroup
		for _, name := range names {
			turn := group.NewTurn("event")
			all.Go(func() {
				tx, err := turn.Tx(t.Context())
				require.NoError(t, err)
				require.NoError(t, insert(t.Context(), tx, name))
				err = batch.Commit(t.Context(), turn, name)
				mu.Lock()
				defer mu.Unlock()
				outcomes[name] = err
			})
		}
		require.Eventually(t, func() bool { return group.Queued() == len(names) }, 10*time.Second, time.Millisecond)
		require.NoError(t, free())
		all.Wait()
		return outcomes
	}
	outcomes := together("a", "b", "c")
	require.Equal(t, map[string]error{"a": nil, "b": nil, "c": nil}, outcomes)
	require.Equal(t, []int{3}, sizes)
	require.Equal(t, []string{"a", "b", "c", "last a", "last b", "last c"}, written(t, db))
	outcomes = together("d", "bad", "e")
	require.ErrorIs(t, outcomes["bad"], errRefused)
	require.ErrorIs(t, outcomes["d"], inbox.ErrUndone)
	require.ErrorIs(t, outcomes["e"], inbox.ErrUndone)
	require.Len(t, written(t, db), 6)
	outcomes = together("d", "bad", "e")
	require.ErrorIs(t, outcomes["bad"], errRefused)
	require.NoError(t, outcomes["d"], "undone a second time")
	require.NoError(t, outcomes["e"], "undone a second time")
	require.Len(t, written(t, db), 10)
}

func TestHandlerMayNotEndTheTransaction(t *testing.T) {
	for name, end := range map[string]func(*sql.Tx) error{
		"commit":   func(tx *sql.Tx) error { return tx.Commit() },
		"rollback": func(tx *sql.Tx) error { return tx.Rollback() },
		"commit statement": func(tx *sql.Tx) error {
			_, err := tx.Exec("commit;")
			if err == nil {
				return nil
			}
			return tx.Commit()
		},
	} {
		t.Run(name, func(t *testing.T) {
			db, group := open(t, inbox.Config{})
			free := occupy(t, group)
			peer := make(chan error, 1)
			go func() {
				peer <- group.Do(context.Background(), func(ctx context.Context, tx *sql.Tx) error { return insert(ctx, tx, "peer") })
			}()
			turn := group.NewTurn("event")
			ctx := inbox.WithTurn(t.Context(), turn)
			require.NoError(t, free())
			tx, err := inbox.Tx(ctx)
			require.NoError(t, err)
			require.NoError(t, insert(ctx, tx, "handler"))
			_ = end(tx)
			require.ErrorIs(t, turn.Commit(ctx, func(context.Context, *sql.Tx) error { return nil }), inbox.ErrNotYours)
			require.NoError(t, <-peer)
			require.Equal(t, []string{"peer"}, written(t, db))
		})
	}
}

// A statement that makes SQLite give up the whole transaction must not let the
// handler's next statement commit by itself.
func TestNothingCommitsOutsideOfTheTransaction(t *testing.T) {
	for name, spoil := range map[string]string{
		"rolled back by a constraint": `INSERT OR ROLLBACK INTO effects (name) VALUES ('handler')`,
		"hidden commit":               `INSERT INTO effects (name) VALUES ('\'); ROLLBACK; SELECT ''`, // not seen, see token
	} {
		t.Run(name, func(t *testing.T) {
			db, group := open(t, inbox.Config{})
			turn := group.NewTurn("event")
			ctx := inbox.WithTurn(t.Context(), turn)
			tx, err := inbox.Tx(ctx)
			require.NoError(t, err)
			require.NoError(t, insert(ctx, tx, "handler"))
			_, err = tx.Exec(spoil)
			if err != nil { // ignored by a careless handler
				require.Error(t, insert(ctx, tx, "after"))
			}
			require.ErrorIs(t, turn.Commit(ctx, func(context.Context, *sql.Tx) error { return nil }), inbox.ErrRolledBack)
			require.Empty(t, written(t, db))
			require.NoError(t, group.Do(t.Context(), func(ctx context.Context, tx *sql.Tx) error { return insert(ctx, tx, "next") }))
			require.Equal(t, []string{"next"}, written(t, db))
		})
	}
}

func TestHandlersOwnSavepointAndConstraintErrorsAreItsOwnAffair(t *testing.T) {
	db, group := open(t, inbox.Config{})
	turn := group.NewTurn("event")
	ctx := inbox.WithTurn(t.Context(), turn)
	tx, err := inbox.Tx(ctx)
	require.NoError(t, err)
	require.NoError(t, insert(ctx, tx, "kept"))
	require.Error(t, insert(ctx, tx, "kept"))
	for _, statement := range []string{"SAVEPOINT mine", "INSERT INTO effects VALUES ('undone')", "ROLLBACK TO mine", "RELEASE mine"} {
		_, err := tx.Exec(statement)
		require.NoError(t, err)
	}
	require.NoError(t, turn.Commit(ctx, func(context.Context, *sql.Tx) error { return nil }))
	require.Equal(t, []string{"kept"}, written(t, db))
}

func TestTurnHeldForTooLongIsTakenAway(t *testing.T) {
	db, group := open(t, inbox.Config{TurnTimeout: 50 * time.Millisecond})
	turn := group.NewTurn("event")
	tx, err := turn.Tx(t.Context())
	require.NoError(t, err)
	require.NoError(t, insert(t.Context(), tx, "slow"))
	require.NoError(t, group.Do(t.Context(), func(ctx context.Context, tx *sql.Tx) error { return insert(ctx, tx, "other") }))
	require.Error(t, insert(t.Context(), tx, "late"))
	require.ErrorIs(t, turn.Commit(t.Context(), func(context.Context, *sql.Tx) error { return nil }), inbox.ErrTurnTimeout)
	require.Equal(t, []string{"other"}, written(t, db))
}

// A handler whose writes only COMMIT refuses does not take others with it twice.
func TestTurnThatCannotCommitFailsAloneInTheEnd(t *testing.T) {
	db, group := open(t, inbox.Config{MaxAge: time.Hour})
	_, err := db.Exec(`CREATE TABLE children (parent TEXT REFERENCES effects (name) DEFERRABLE INITIALLY DEFERRED)`)
	require.NoError(t, err)
	run := func(name string) error {
		turn := group.NewTurn("event")
		tx, err := turn.Tx(t.Context())
		require.NoError(t, err)
		if name == "bad" {
			_, err = tx.Exec(`INSERT INTO children VALUES ('nobody')`)
			require.NoError(t, err)
		} else {
			require.NoError(t, insert(t.Context(), tx, name))
		}
		return turn.Commit(t.Context(), func(context.Context, *sql.Tx) error { return nil })
	}
	together := func() (good []error, bad error) {
		free := occupy(t, group)
		var all sync.WaitGroup
		good = make([]error, 2)
		all.Go(func() { good[0] = run("a") })
		all.Go(func() { bad = run("bad") })
		all.Go(func() { good[1] = run("b") })
		require.Eventually(t, func() bool { return group.Queued() == 3 }, 10*time.Second, time.Millisecond)
		_ = free()
		all.Wait()
		return good, bad
	}
	_, bad := together()
	require.ErrorIs(t, bad, inbox.ErrCommitUnknown)
	for range 3 {
		_, err := db.Exec(`DELETE FROM effects`)
		require.NoError(t, err)
		good, bad := together()
		require.ErrorIs(t, bad, inbox.ErrCommitUnknown)
		require.Equal(t, []error{nil, nil}, good)
	}
}

// Slow turns are put back once so that others can commit, and then have precedence
// over plain units, of which there may always be some.
func TestSlowTurnsAreNotPutOffForever(t *testing.T) {
	db, group := open(t, inbox.Config{MaxAge: time.Nanosecond})
	ctx, cancel := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	for range 4 {
		busy.Go(func() {
			for ctx.Err() == nil {
				_ = group.Do(ctx, func(context.Context, *sql.Tx) error { return nil })
			}
		})
	}
	for _, name := range []string{"a", "b", "c"} {
		turn := group.NewTurn("event")
		tx, err := turn.Tx(t.Context())
		require.NoError(t, err)
		require.NoError(t, insert(ctx, tx, name))
		require.NoError(t, turn.Commit(ctx, func(context.Context, *sql.Tx) error { return nil }))
	}
	cancel()
	busy.Wait()
	require.Equal(t, []string{"a", "b", "c"}, written(t, db))
}
