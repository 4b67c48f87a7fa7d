package inbox_test

import (
	"bytes"
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// A goroutine that a handler has left behind gets no transaction once its event is over,
// though the handler itself had asked for none: what it wrote would be nobody's.
func TestNoTransactionBehindTheEnd(t *testing.T) {
	db, group := open(t, inbox.Config{})
	for name, end := range map[string]func(*inbox.Turn){
		"committed without": func(turn *inbox.Turn) { require.True(t, turn.Unused()) },
		"released":          func(turn *inbox.Turn) { turn.Release() },
	} {
		turn := group.NewTurn("event")
		end(turn)
		_, err := turn.Tx(t.Context())
		require.ErrorContains(t, err, "transaction is over", name)
		require.False(t, turn.Unused(), name)
		turn.Release()
	}

	// Nor if it waits for one when that happens.
	free := occupy(t, group)
	turn := group.NewTurn("event")
	asked := make(chan error, 1)
	go func() {
		_, err := turn.Tx(context.Background())
		asked <- err
	}()
	require.Eventually(t, func() bool { return group.Queued() == 1 }, 10*time.Second, time.Millisecond)
	turn.Release()
	require.ErrorContains(t, <-asked, "transaction is over")
	require.NoError(t, free())
	require.Empty(t, written(t, db))
}

// A database that cannot be had fails what waits for it, as the store's fault; and Close
// comes to an end.
func TestADatabaseThatCannotBeHad(t *testing.T) {
	db, _, err := sqldb.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	require.NoError(t, err)
	require.NoError(t, db.Close())
	group := inbox.NewGroup(db, inbox.Config{})
	require.ErrorContains(t, group.Do(t.Context(), func(context.Context, *sql.Tx) error { return nil }), "connect database writer: ")
	_, err = group.NewTurn("event").Tx(t.Context())
	require.ErrorContains(t, err, "connect database writer: ")
	var step *dedup.StepError
	require.ErrorAs(t, err, &step)
	require.True(t, step.Infrastructure())
	require.NoError(t, group.Close())
}

// Nor does a transaction that does not begin keep anybody waiting, or run what it was for
// without one.
func TestAFileThatIsNoDatabaseFailsWhatWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte("damaged "), 1024), 0o600))
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	defer db.Close()
	group := inbox.NewGroup(db, inbox.Config{})
	require.ErrorContains(t, group.Do(t.Context(), func(context.Context, *sql.Tx) error {
		t.Error("it ran")
		return nil
	}), "begin transaction: ")
	_, err = group.NewTurn("event").Tx(t.Context())
	require.ErrorContains(t, err, "begin transaction: ")
	require.NoError(t, group.Close())
}
