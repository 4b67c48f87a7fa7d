package framework

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/schema"
	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

// The inbox's writer holds a connection for as long as it lives. Closing the
// database first would wait for that connection for ever.
func TestADatabaseClosesItsWriterFirst(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, dialect sqldb.Dialect, dsn string) {
		db, _, err := sqldb.Open(t.Context(), dsn)
		require.NoError(t, err)
		tables, err := schema.New(db, dialect, schema.Names{})
		require.NoError(t, err)
		_, err = tables.Up(t.Context())
		require.NoError(t, err)
		opened, err := inbox.Open(t.Context(), inbox.Options{DB: db, Dialect: dialect, Table: schema.Names{}.InboxTable()})
		require.NoError(t, err)
		database := &sqlDatabase{db: db, inbox: opened}

		closed := make(chan error, 1)
		go func() { closed <- database.close() }()
		select {
		case err := <-closed:
			require.NoError(t, err)
		case <-time.After(10 * time.Second):
			require.FailNow(t, "the database does not close")
		}
	})
}
