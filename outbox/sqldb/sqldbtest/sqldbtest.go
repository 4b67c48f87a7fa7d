// Package sqldbtest gives tests databases of their own: a SQLite file, and a
// database each on the PostgreSQL and MariaDB servers that package servers knows.
package sqldbtest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// Dialects are those that Each runs, in its order.
func Dialects() []sqldb.Dialect { return []sqldb.Dialect{sqldb.SQLite, sqldb.Postgres, sqldb.MySQL} }

// Each runs a test on a new database of every dialect. Without its server a
// dialect is skipped and reported, see servers.Require.
func Each(t *testing.T, test func(t *testing.T, dialect sqldb.Dialect, dsn string)) {
	t.Helper()
	for _, dialect := range Dialects() {
		t.Run(string(dialect), func(t *testing.T) { test(t, dialect, New(t, dialect)) })
	}
}

// New creates an empty database and returns its DSN. It is dropped when the test
// ends.
func New(t testing.TB, dialect sqldb.Dialect) string {
	t.Helper()
	name := "hapax_" + strings.ToLower(rand.Text()[:10])
	switch dialect {
	case sqldb.SQLite:
		return "sqlite:" + filepath.Join(t.TempDir(), "test.db")
	case sqldb.Postgres:
		address, err := url.Parse(servers.Require(t, servers.Postgres).URL)
		require.NoError(t, err)
		create(t, address.String(), "CREATE DATABASE "+name, "DROP DATABASE "+name+" WITH (FORCE)")
		address.Path = "/" + name
		return address.String()
	default:
		address := servers.Require(t, servers.MariaDB).URL
		create(t, address, "CREATE DATABASE "+name, "DROP DATABASE "+name)
		at := strings.LastIndex(address, "/")
		_, options, _ := strings.Cut(address[at:], "?")
		return address[:at+1] + name + "?" + options
	}
}

// Open opens a DSN for the length of the test.
func Open(t testing.TB, dsn string, options sqldb.Options) *sql.DB {
	t.Helper()
	db, _, err := sqldb.OpenWith(t.Context(), dsn, options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func create(t testing.TB, dsn, create, drop string) {
	t.Helper()
	run := func(ctx context.Context, statement string) {
		db, _, err := sqldb.Open(ctx, dsn)
		require.NoError(t, err)
		defer db.Close()
		_, err = db.ExecContext(ctx, statement)
		require.NoError(t, err)
	}
	run(t.Context(), create)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		run(ctx, drop)
	})
}
