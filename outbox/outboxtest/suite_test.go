package outboxtest_test

import (
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/outboxtest"
	"github.com/hapax-go/hapax/outbox/schema"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

func TestMain(m *testing.M) {
	fault.ChildMain(outboxtest.Roles)
	goleak.VerifyTestMain(m)
}

// open opens a database and migrates a new outbox in a schema of its own.
func open(t *testing.T, dsn string) outboxtest.Harness {
	t.Helper()
	db, dialect, err := sqldb.Open(t.Context(), dsn)
	require.NoError(t, err)
	names := schema.Names{}
	if dialect != sqldb.SQLite {
		names.Schema = "outboxtest_" + strings.ToLower(rand.Text()[:10])
	}
	t.Cleanup(func() {
		if names.Schema != "" {
			drop := "DROP SCHEMA " + dialect.QuoteName(names.Schema)
			if dialect == sqldb.Postgres {
				drop += " CASCADE"
			}
			_, err := db.Exec(drop)
			require.NoError(t, err)
		}
		require.NoError(t, db.Close())
	})
	tables, err := schema.New(db, dialect, names)
	require.NoError(t, err)
	_, err = tables.Up(t.Context())
	require.NoError(t, err)
	return outboxtest.Harness{
		DB: db, DSN: dsn, Outbox: outbox.Config{Dialect: dialect, Table: names.OutboxTable()}, OneWriter: dialect == sqldb.SQLite,
	}
}

// databases calls each with every database there is, as a subtest.
func databases(t *testing.T, each func(t *testing.T, dsn string)) {
	t.Run("sqlite", func(t *testing.T) {
		servers.RanInProcess(t, "sqlite", "")
		each(t, "sqlite:"+filepath.Join(t.TempDir(), "outbox.db")+"?synchronous=off")
	})
	for _, name := range []string{servers.Postgres, servers.MariaDB} {
		t.Run(name, func(t *testing.T) { each(t, servers.Require(t, name).URL) })
	}
}

func TestOutbox(t *testing.T) {
	databases(t, func(t *testing.T, dsn string) {
		n := 0
		outboxtest.Run(t, func(t *testing.T) outboxtest.Harness {
			if strings.HasPrefix(dsn, "sqlite:") {
				n++ // a file for each check
				return open(t, strings.Replace(dsn, "outbox.db", fmt.Sprintf("outbox-%d.db", n), 1))
			}
			return open(t, dsn)
		})
	})
}

// TestOutboxWithCopy runs the suite with batches that PostgreSQL's COPY writes.
func TestOutboxWithCopy(t *testing.T) {
	dsn := servers.Require(t, servers.Postgres).URL
	outboxtest.Run(t, func(t *testing.T) outboxtest.Harness {
		harness := open(t, dsn)
		harness.Outbox.Copy = true
		return harness
	})
}
