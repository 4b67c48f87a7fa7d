package framework

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sqliteledger "github.com/hapax-go/hapax/dedup/ledger/sqlite"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// The group's writer takes the very connection on which the ledger has prepared
// its statements. Closing the ledger first waited for that connection for ever.
func TestADatabaseClosesItsWriterFirst(t *testing.T) {
	db, _, err := sqldb.Open(t.Context(), filepath.Join(t.TempDir(), "shop.db"))
	require.NoError(t, err)
	ledger, err := sqliteledger.Open(t.Context(), db, sqliteledger.Config{})
	require.NoError(t, err)
	database := &sqlDatabase{db: db, group: inbox.NewGroup(db, inbox.Config{}), ledgers: []*sqliteledger.Ledger{ledger}}
	require.Eventually(t, func() bool { return db.Stats().InUse == 1 }, 10*time.Second, time.Millisecond, "the writer takes a connection")

	closed := make(chan error, 1)
	go func() { closed <- database.close() }()
	select {
	case err := <-closed:
		require.NoError(t, err)
	case <-time.After(10 * time.Second):
		require.FailNow(t, "the database does not close")
	}
}
