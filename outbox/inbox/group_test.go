package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

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

func written(t testing.TB, db *sql.DB) []string {
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

// Functions that wait together all run, one by one.
func TestFunctionsThatWaitTogetherAllRun(t *testing.T) {
	db, group := open(t, inbox.Config{})
	free := occupy(t, group)
	var all sync.WaitGroup
	for i, name := range []string{"a", "b", "c"} {
		all.Go(func() {
			assert.NoError(t, group.Do(t.Context(), func(ctx context.Context, tx *sql.Tx) error { return insert(ctx, tx, name) }))
		})
		require.Eventually(t, func() bool { return group.Queued() == i+1 }, 10*time.Second, time.Millisecond)
	}
	require.NoError(t, free())
	all.Wait()
	require.Equal(t, []string{"a", "b", "c"}, written(t, db))
}

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
	require.Equal(t, []string{"a", "b", "c"}, written(t, db))
}

func TestWaitingUnitsAreWithdrawnWithTheirContext(t *testing.T) {
	db, group := open(t, inbox.Config{})
	free := occupy(t, group)
	ctx, cancel := context.WithCancelCause(t.Context())
	turn := group.NewTurn("event")
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
	require.Empty(t, written(t, db))
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
	require.Empty(t, written(t, db))
	require.NoError(t, ready.Do(t.Context(), "next"))
	require.Equal(t, []string{"next"}, written(t, db))
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
	_, err := group.NewTurn("event").Tx(t.Context())
	require.ErrorIs(t, err, inbox.ErrClosed)
	require.Equal(t, []string{"before"}, written(t, db))
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
