package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, config inbox.Config) (*sql.DB, *inbox.Group) {
	t.Helper()
	db, _, err := sqldb.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	require.NoError(t, err)
	_, err = db.Exec(`CREATE TABLE effects (name TEXT PRIMARY KEY)`)
	require.NoError(t, err)
	group := inbox.NewGroup(db, config)
	t.Cleanup(func() {
		require.NoError(t, group.Close())
		require.NoError(t, db.Close())
	})
	return db, group
}

func effects(t testing.TB, db *sql.DB) []string {
	t.Helper()
	rows, err := db.Query(`SELECT name FROM effects ORDER BY name`)
	require.NoError(t, err)
	defer rows.Close()
	names := []string{}
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		names = append(names, name)
	}
	require.NoError(t, rows.Err())
	return names
}

func insert(ctx context.Context, tx *sql.Tx, name string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO effects (name) VALUES (?)`, name)
	return err
}

// occupy holds the group's writer until the returned function is called, so that
// whatever is submitted meanwhile lands in one group.
func occupy(t testing.TB, group *inbox.Group) (free func() error) {
	t.Helper()
	running, leave, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- group.Do(context.Background(), func(context.Context, *sql.Tx) error {
			close(running)
			<-leave
			return nil
		})
	}()
	<-running
	return func() error {
		close(leave)
		return <-done
	}
}

var errRefused = errors.New("refused")

func TestFailingUnitsLeaveTheirPeersAlone(t *testing.T) {
	db, group := open(t, inbox.Config{})
	batch := inbox.NewBatch(group, func(ctx context.Context, tx *sql.Tx, names []string) error {
		for _, name := range names {
			if err := insert(ctx, tx, name); err != nil {
				return err
			}
			switch name {
			case "bad":
				return errRefused
			case "panics":
				panic("boom")
			}
		}
		return nil
	})
	free := occupy(t, group)
	outcomes := map[string]chan error{}
	for _, name := range []string{"a", "bad", "b", "panics", "c"} {
		outcome := make(chan error, 1)
		outcomes[name] = outcome
		batch.Go(name, func(err error) { outcome <- err })
	}
	require.NoError(t, free())
	require.NoError(t, <-outcomes["a"])
	require.NoError(t, <-outcomes["b"])
	require.NoError(t, <-outcomes["c"])
	require.ErrorIs(t, <-outcomes["bad"], errRefused)
	require.ErrorContains(t, <-outcomes["panics"], "boom")
	require.Equal(t, []string{"a", "b", "c"}, effects(t, db))
}

func TestTurnCommitsWithItsStep(t *testing.T) {
	db, group := open(t, inbox.Config{})
	turn := group.NewTurn()
	ctx := inbox.WithTurn(t.Context(), turn)
	tx, err := inbox.Tx(ctx)
	require.NoError(t, err)
	require.NoError(t, insert(ctx, tx, "handler"))
	again, err := inbox.Tx(ctx)
	require.NoError(t, err)
	require.Same(t, tx, again)
	require.Empty(t, effects(t, db), "visible before the commit")
	require.NoError(t, turn.Commit(ctx, func(ctx context.Context, tx *sql.Tx) error { return insert(ctx, tx, "step") }))
	require.Equal(t, []string{"handler", "step"}, effects(t, db))
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
		turn := group.NewTurn()
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
		turn := group.NewTurn()
		ctx := inbox.WithTurn(t.Context(), turn)
		tx, err := inbox.Tx(ctx)
		require.NoError(t, err)
		require.NoError(t, insert(ctx, tx, "released"))
		turn.Release()
	})
	require.NoError(t, free())
	all.Wait()
	require.Equal(t, []string{"a", "b"}, effects(t, db))
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
			turn := group.NewTurn()
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
	require.Equal(t, []string{"a", "b", "c", "last a", "last b", "last c"}, effects(t, db))
	outcomes = together("d", "bad", "e")
	require.ErrorIs(t, outcomes["bad"], errRefused)
	require.ErrorIs(t, outcomes["d"], inbox.ErrUndone)
	require.ErrorIs(t, outcomes["e"], inbox.ErrUndone)
	require.Len(t, effects(t, db), 6)
	outcomes = together("d", "bad", "e")
	require.ErrorIs(t, outcomes["bad"], errRefused)
	require.NoError(t, outcomes["d"], "undone a second time")
	require.NoError(t, outcomes["e"], "undone a second time")
	require.Len(t, effects(t, db), 10)
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
			turn := group.NewTurn()
			ctx := inbox.WithTurn(t.Context(), turn)
			require.NoError(t, free())
			tx, err := inbox.Tx(ctx)
			require.NoError(t, err)
			require.NoError(t, insert(ctx, tx, "handler"))
			_ = end(tx)
			require.ErrorIs(t, turn.Commit(ctx, func(context.Context, *sql.Tx) error { return nil }), inbox.ErrNotYours)
			require.NoError(t, <-peer)
			require.Equal(t, []string{"peer"}, effects(t, db))
		})
	}
}

// A statement that makes SQLite give up the whole transaction must not let the
// handler's next statement commit by itself.
func TestNothingCommitsOutsideOfTheTransaction(t *testing.T) {
	for name, spoil := range map[string]string{
		"rolled back by a constraint": `INSERT OR ROLLBACK INTO effects (name) VALUES ('handler')`,
		"hidden commit":               `INSERT INTO effects (name) VALUES ('x'); ROLLBACK`,
	} {
		t.Run(name, func(t *testing.T) {
			db, group := open(t, inbox.Config{})
			turn := group.NewTurn()
			ctx := inbox.WithTurn(t.Context(), turn)
			tx, err := inbox.Tx(ctx)
			require.NoError(t, err)
			require.NoError(t, insert(ctx, tx, "handler"))
			_, err = tx.Exec(spoil)
			if err != nil { // ignored by a careless handler
				require.Error(t, insert(ctx, tx, "after"))
			}
			require.ErrorIs(t, turn.Commit(ctx, func(context.Context, *sql.Tx) error { return nil }), inbox.ErrRolledBack)
			require.Empty(t, effects(t, db))
			require.NoError(t, group.Do(t.Context(), func(ctx context.Context, tx *sql.Tx) error { return insert(ctx, tx, "next") }))
			require.Equal(t, []string{"next"}, effects(t, db))
		})
	}
}

func TestHandlersOwnSavepointAndConstraintErrorsAreItsOwnAffair(t *testing.T) {
	db, group := open(t, inbox.Config{})
	turn := group.NewTurn()
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
	require.Equal(t, []string{"kept"}, effects(t, db))
}

func TestWaitingUnitsAreWithdrawnWithTheirContext(t *testing.T) {
	db, group := open(t, inbox.Config{})
	free := occupy(t, group)
	ctx, cancel := context.WithCancelCause(t.Context())
	turn := group.NewTurn()
	plain, waiting := make(chan error, 1), make(chan error, 1)
	go func() {
		plain <- group.Do(ctx, func(ctx context.Context, tx *sql.Tx) error { return insert(ctx, tx, "plain") })
	}()
	go func() {
		_, err := turn.Tx(ctx)
		waiting <- err
	}()
	cancel(errRefused)
	require.ErrorIs(t, <-plain, errRefused)
	require.ErrorIs(t, <-waiting, errRefused)
	require.NoError(t, free())
	require.True(t, turn.Unused())
	require.NoError(t, group.Do(t.Context(), func(context.Context, *sql.Tx) error { return nil }))
	require.Empty(t, effects(t, db))
}

func TestTurnHeldForTooLongIsTakenAway(t *testing.T) {
	db, group := open(t, inbox.Config{TurnTimeout: 50 * time.Millisecond})
	turn := group.NewTurn()
	tx, err := turn.Tx(t.Context())
	require.NoError(t, err)
	require.NoError(t, insert(t.Context(), tx, "slow"))
	require.NoError(t, group.Do(t.Context(), func(ctx context.Context, tx *sql.Tx) error { return insert(ctx, tx, "other") }))
	require.Error(t, insert(t.Context(), tx, "late"))
	require.ErrorIs(t, turn.Commit(t.Context(), func(context.Context, *sql.Tx) error { return nil }), inbox.ErrTurnTimeout)
	require.Equal(t, []string{"other"}, effects(t, db))
}

func TestFailedCommitIsToldToEveryUnit(t *testing.T) {
	db, group := open(t, inbox.Config{})
	_, err := db.Exec(`CREATE TABLE children (parent TEXT REFERENCES effects (name) DEFERRABLE INITIALLY DEFERRED)`)
	require.NoError(t, err)
	free := occupy(t, group)
	outcomes := make(chan error, 2)
	ready := inbox.NewBatch(group, func(ctx context.Context, tx *sql.Tx, names []string) error {
		for _, name := range names {
			if err := insert(ctx, tx, name); err != nil {
				return err
			}
		}
		return nil
	})
	broken := inbox.NewBatch(group, func(ctx context.Context, tx *sql.Tx, _ []string) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO children VALUES ('nobody')`) // found out by COMMIT
		return err
	})
	ready.Go("peer", func(err error) { outcomes <- err })
	broken.Go("", func(err error) { outcomes <- err })
	require.ErrorIs(t, free(), inbox.ErrCommitUnknown)
	require.ErrorIs(t, <-outcomes, inbox.ErrCommitUnknown)
	require.ErrorIs(t, <-outcomes, inbox.ErrCommitUnknown)
	require.Empty(t, effects(t, db))
	require.NoError(t, ready.Do(t.Context(), "next"))
	require.Equal(t, []string{"next"}, effects(t, db))
}

// A handler whose writes only COMMIT refuses does not take others with it twice.
func TestTurnThatCannotCommitFailsAloneInTheEnd(t *testing.T) {
	db, group := open(t, inbox.Config{MaxAge: time.Hour})
	_, err := db.Exec(`CREATE TABLE children (parent TEXT REFERENCES effects (name) DEFERRABLE INITIALLY DEFERRED)`)
	require.NoError(t, err)
	run := func(name string) error {
		turn := group.NewTurn()
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
	together := func() (bad error, good []error) {
		free := occupy(t, group)
		var all sync.WaitGroup
		good = make([]error, 2)
		all.Go(func() { good[0] = run("a") })
		all.Go(func() { bad = run("bad") })
		all.Go(func() { good[1] = run("b") })
		require.Eventually(t, func() bool { return group.Queued() == 3 }, 10*time.Second, time.Millisecond)
		_ = free()
		all.Wait()
		return bad, good
	}
	bad, _ := together()
	require.ErrorIs(t, bad, inbox.ErrCommitUnknown)
	for range 3 {
		_, err := db.Exec(`DELETE FROM effects`)
		require.NoError(t, err)
		bad, good := together()
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
		turn := group.NewTurn()
		tx, err := turn.Tx(t.Context())
		require.NoError(t, err)
		require.NoError(t, insert(ctx, tx, name))
		require.NoError(t, turn.Commit(ctx, func(context.Context, *sql.Tx) error { return nil }))
	}
	cancel()
	busy.Wait()
	require.Equal(t, []string{"a", "b", "c"}, effects(t, db))
}

func TestTxNeedsAnInbox(t *testing.T) {
	_, err := inbox.Tx(t.Context())
	require.ErrorContains(t, err, `set sql: in hapax.yaml or use broker sqlite`)
	_, err = inbox.Tx(inbox.WithoutTx(t.Context(), "xack"))
	require.ErrorContains(t, err, `its strategy is "xack"`)
}

func TestClosedGroupRefuses(t *testing.T) {
	db, group := open(t, inbox.Config{})
	require.NoError(t, group.Do(t.Context(), func(ctx context.Context, tx *sql.Tx) error { return insert(ctx, tx, "before") }))
	require.NoError(t, group.Close())
	require.ErrorIs(t, group.Do(t.Context(), func(context.Context, *sql.Tx) error { return nil }), inbox.ErrClosed)
	_, err := group.NewTurn().Tx(t.Context())
	require.ErrorIs(t, err, inbox.ErrClosed)
	require.Equal(t, []string{"before"}, effects(t, db))
}

// Two groups on one file stand for two processes: neither fails, nor starves.
func TestGroupsShareAFile(t *testing.T) {
	db, first := open(t, inbox.Config{})
	second := inbox.NewGroup(db, inbox.Config{})
	defer func() { require.NoError(t, second.Close()) }()
	_, err := db.Exec(`CREATE TABLE counts (n INTEGER)`)
	require.NoError(t, err)
	var all sync.WaitGroup
	for _, group := range []*inbox.Group{first, second} {
		for range 8 {
			all.Go(func() {
				for range 50 {
					require.NoError(t, group.Do(t.Context(), func(ctx context.Context, tx *sql.Tx) error {
						_, err := tx.ExecContext(ctx, `INSERT INTO counts VALUES (1)`)
						return err
					}))
				}
			})
		}
	}
	all.Wait()
	var n int
	require.NoError(t, db.QueryRow(`SELECT count(*) FROM counts`).Scan(&n))
	require.Equal(t, 800, n)
}
