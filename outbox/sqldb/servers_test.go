package sqldb_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOptionsHoldOnEveryConnection(t *testing.T) {
	options := sqldb.Options{LockTimeout: 3 * time.Second, IdleInTransaction: 7 * time.Second, Isolation: "serializable"}
	t.Run("postgres", func(t *testing.T) {
		db := sqldbtest.Open(t, sqldbtest.New(t, sqldb.Postgres), options)
		for name, want := range map[string]string{
			"lock_timeout": "3s", "idle_in_transaction_session_timeout": "7s", "transaction_isolation": "serializable", "timezone": "UTC",
		} {
			var value string
			require.NoError(t, db.QueryRow("SHOW "+name).Scan(&value))
			require.Equal(t, want, value, name)
		}
	})
	t.Run("mysql", func(t *testing.T) {
		db := sqldbtest.Open(t, sqldbtest.New(t, sqldb.MySQL), options)
		for name, want := range map[string]string{
			"innodb_lock_wait_timeout": "3", "wait_timeout": "7", "tx_isolation": "SERIALIZABLE", "time_zone": "+00:00",
		} {
			var value string
			require.NoError(t, db.QueryRow("SELECT @@SESSION."+name).Scan(&value))
			require.Equal(t, want, value, name)
		}
	})
}

// Scenario 17: what is wrong with a database is said, and no password is.
func TestOpenSaysWhyAServerWasNotReached(t *testing.T) {
	postgres, err := url.Parse(servers.Require(t, servers.Postgres).URL)
	require.NoError(t, err)
	mariadb := servers.Require(t, servers.MariaDB).Hosts[0]
	changed := func(change func(*url.URL)) string {
		u := *postgres
		change(&u)
		return u.String()
	}
	for dsn, want := range map[string]string{
		changed(func(u *url.URL) { u.Path = "/missing" }):                                               "the database does not exist: create it",
		changed(func(u *url.URL) { u.Host = "127.0.0.1:1"; u.User = url.UserPassword("u", "hunter2") }): "no answer: check that the server runs there",
		"postgres://u:hunter2@127.0.0.1:x/db":                                                           "the PostgreSQL DSN cannot be read",
		"mysql://nobody:hunter2@" + mariadb + "/hapax":                                                  `user "nobody" was refused: check user and password`,
		"nobody:hunter2@tcp(" + mariadb + ")/hapax":                                                     `user "nobody" was refused: check user and password`,
		"mariadb://hapax:hapax@" + mariadb + "/missing":                                                 "open database mysql",
		"mysql://u:hunter2@127.0.0.1:1/db":                                                              "no answer: check that the server runs there",
		"mysql://u:hunter2@":                                                                            "the MySQL URL cannot be read",
		"u:hunter2@wrong":                                                                               "neither a URL nor a driver's own form",
	} {
		_, _, err := sqldb.Open(t.Context(), dsn)
		require.ErrorContains(t, err, want, strings.ReplaceAll(dsn, "hunter2", "***"))
		require.NotContains(t, err.Error(), "hunter2")
	}
}

// What the errors of the databases mean.
func TestClassification(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, dialect sqldb.Dialect, dsn string) {
		db := sqldbtest.Open(t, dsn, sqldb.Options{LockTimeout: time.Second})
		_, err := db.Exec(`CREATE TABLE accounts (id int PRIMARY KEY, balance int)`)
		require.NoError(t, err)
		_, err = db.Exec(`INSERT INTO accounts VALUES (1, 0)`)
		require.NoError(t, err)
		_, err = db.Exec(`INSERT INTO accounts VALUES (1, 0)`)
		require.True(t, sqldb.IsUnique(err), "%v", err)
		require.False(t, sqldb.Retryable(err))
		require.True(t, sqldb.IsRefused(err))
		_, err = db.Exec(`INSERT INTO missing VALUES (1)`)
		require.True(t, sqldb.IsMissing(err), "%v", err)
		require.False(t, sqldb.IsRefused(err))
		if dialect == sqldb.SQLite {
			return
		}
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		defer tx.Rollback() //nolint:errcheck // ends the test
		_, err = tx.Exec(`UPDATE accounts SET balance = 1 WHERE id = 1`)
		require.NoError(t, err)
		_, err = db.Exec(`UPDATE accounts SET balance = 2 WHERE id = 1`)
		require.True(t, sqldb.Retryable(err), "%v", err)
		require.False(t, sqldb.IsRefused(err))
	})
}

func TestListen(t *testing.T) {
	db := sqldbtest.Open(t, sqldbtest.New(t, sqldb.Postgres), sqldb.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	heard, ended := make(chan string, 8), make(chan error, 1)
	go func() { ended <- sqldb.Listen(ctx, db, "hapax_test", func(payload string) { heard <- payload }) }()
	require.Equal(t, "", <-heard, "it listens")
	_, err := db.Exec(`SELECT pg_notify('hapax_test', 'hello')`)
	require.NoError(t, err)
	require.Equal(t, "hello", <-heard)
	cancel()
	require.NoError(t, <-ended)
}
