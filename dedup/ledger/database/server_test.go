package database_test

import (
	"database/sql"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/database"
	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/outbox/schema"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// onServers runs a test on each of the databases.
func onServers(t *testing.T, test func(t *testing.T, s server)) {
	for name, dialect := range map[string]database.Dialect{servers.Postgres: database.Postgres, servers.MariaDB: database.MySQL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, server{servers.Require(t, name).URL, dialect, sqldb.Dialect(dialect)})
		})
	}
}

type server struct {
	dsn     string
	dialect database.Dialect
	kind    sqldb.Dialect
}

func (s server) connect(t testing.TB) *sql.DB {
	t.Helper()
	db, _, err := sqldb.OpenWith(t.Context(), s.dsn, sqldb.Options{MaxConns: 16})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// tables makes a ledger's tables under a name of their own, and returns it.
func (s server) tables(t testing.TB) string {
	t.Helper()
	db, suffix := s.connect(t), fmt.Sprintf("t%x", dedup.NextToken())
	names := schema.Names{Inbox: suffix + "_inbox", Outbox: suffix + "_outbox", Ledger: suffix, Version: suffix + "_schema"}
	made, err := schema.New(db, s.kind, names)
	require.NoError(t, err)
	_, err = made.Up(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { s.drop(t, suffix) })
	return suffix
}

// drop removes whatever tables' names begin so.
func (s server) drop(t testing.TB, prefix string) {
	db, _, err := sqldb.Open(t.Context(), s.dsn)
	if t.Context().Err() != nil { // cleaning up
		db, _, err = sqldb.Open(background, s.dsn)
	}
	require.NoError(t, err)
	defer db.Close()
	rows, err := db.Query(`SELECT table_name FROM information_schema.tables WHERE table_name LIKE '` + strings.ReplaceAll(prefix, "_", `\_`) + `%'`)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		_, err := db.Exec(`DROP TABLE IF EXISTS ` + name + map[database.Dialect]string{database.Postgres: " CASCADE"}[s.dialect])
		require.NoError(t, err)
	}
	require.NoError(t, rows.Err())
}

func (s server) open(t testing.TB, table string, config database.Config) *database.Ledger {
	t.Helper()
	config.Table = table
	ledger, err := database.Open(t.Context(), s.connect(t), s.dialect, config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, ledger.Close()) })
	return ledger
}

// skew is a clock that tests set forward.
type skew struct{ ahead atomic.Int64 }

func (s *skew) Advance(d time.Duration) { s.ahead.Add(int64(d)) }
func (s *skew) Ahead() time.Duration    { return time.Duration(s.ahead.Load()) }

// sizes are in bytes, indexes included.
func (s server) sizes(t *testing.T, tables []string) map[string]int64 {
	t.Helper()
	db, sizes := s.connect(t), map[string]int64{}
	for _, table := range tables {
		query := `SELECT pg_total_relation_size('` + table + `')`
		if s.dialect == database.MySQL {
			_, err := db.Exec(`ANALYZE TABLE ` + table)
			require.NoError(t, err)
			query = `SELECT data_length + index_length FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = '` + table + `'`
		}
		var size int64
		require.NoError(t, db.QueryRow(query).Scan(&size))
		sizes[table] = size
	}
	return sizes
}
