package schema_test

import (
	"database/sql"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pressly/goose/v3/database"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/outbox/schema"
	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, dialect sqldb.Dialect, dsn string, names schema.Names) (*schema.Schema, *sql.DB) {
	t.Helper()
	db := sqldbtest.Open(t, dsn, sqldb.Options{})
	tables, err := schema.New(db, dialect, names)
	require.NoError(t, err)
	return tables, db
}

func TestUpBringsEveryMigrationOnce(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, dialect sqldb.Dialect, dsn string) {
		tables, _ := open(t, dialect, dsn, schema.Names{})
		err := tables.Check(t.Context())
		require.ErrorIs(t, err, schema.ErrNotCurrent)
		require.ErrorContains(t, err, "run `hapax migrate up`")

		applied, err := tables.Up(t.Context())
		require.NoError(t, err)
		require.NotEmpty(t, applied)
		require.Equal(t, "0001_inbox", applied[0].Name)
		require.NoError(t, tables.Check(t.Context()))

		again, err := tables.Up(t.Context())
		require.NoError(t, err)
		require.Empty(t, again)
		list, err := tables.Status(t.Context())
		require.NoError(t, err)
		require.Len(t, list, len(applied))
		for _, m := range list {
			require.False(t, m.AppliedAt.IsZero(), m.Name)
		}
	})
}

func TestProcessesMigrateAtTheSameTime(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, dialect sqldb.Dialect, dsn string) {
		var all sync.WaitGroup
		var mu sync.Mutex
		total := 0
		for range 4 {
			tables, _ := open(t, dialect, dsn, schema.Names{})
			all.Go(func() {
				applied, err := tables.Up(t.Context())
				mu.Lock()
				defer mu.Unlock()
				total += len(applied)
				if err != nil {
					t.Errorf("migrate: %v", err)
				}
			})
		}
		all.Wait()
		tables, _ := open(t, dialect, dsn, schema.Names{})
		list, err := tables.Status(t.Context())
		require.NoError(t, err)
		require.Equal(t, len(list), total)
	})
}

// PostgreSQL's CREATE SCHEMA IF NOT EXISTS fails when another process, which began
// earlier and was not seen yet, has created it meanwhile.
func TestProcessesCreateTheSchemaAtTheSameTime(t *testing.T) {
	dsn := sqldbtest.New(t, sqldb.Postgres)
	tables, db := open(t, sqldb.Postgres, dsn, schema.Names{Schema: "events"})
	first, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer first.Rollback()
	_, err = first.Exec(`CREATE SCHEMA events`)
	require.NoError(t, err)
	second := make(chan error, 1)
	go func() { _, err := tables.Up(t.Context()); second <- err }()
	require.Eventually(t, func() bool {
		var waits bool
		require.NoError(t, db.QueryRow(`SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'CREATE SCHEMA%')`).Scan(&waits))
		return waits
	}, 30*time.Second, 5*time.Millisecond)
	require.NoError(t, first.Commit())
	require.NoError(t, <-second)
	require.NoError(t, tables.Check(t.Context()))
}

// Where nobody has created the schema, the error of the attempt is what is said.
func TestASchemaThatCannotBeCreated(t *testing.T) {
	dsn := sqldbtest.New(t, sqldb.Postgres)
	db := sqldbtest.Open(t, dsn, sqldb.Options{})
	db.SetMaxOpenConns(1)
	_, err := db.Exec(`SET SESSION AUTHORIZATION pg_monitor`) // may not create anything
	require.NoError(t, err)
	tables, err := schema.New(db, sqldb.Postgres, schema.Names{Schema: "events"})
	require.NoError(t, err)
	_, err = tables.Up(t.Context())
	require.ErrorContains(t, err, "create schema events: ")
	require.ErrorContains(t, err, "permission denied")
}

// A process that migrates has made the version table and not yet its first row, when
// another one looks.
func TestProcessMigratesWhileAnotherBegins(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, dialect sqldb.Dialect, dsn string) {
		if dialect == sqldb.Postgres {
			return // there both are one transaction
		}
		tables, db := open(t, dialect, dsn, schema.Names{})
		kind := map[sqldb.Dialect]database.Dialect{sqldb.MySQL: database.DialectMySQL, sqldb.SQLite: database.DialectSQLite3}[dialect]
		store, err := database.NewStore(kind, "hapax_migrations")
		require.NoError(t, err)
		require.NoError(t, store.CreateVersionTable(t.Context(), db))
		begun := make(chan error, 1)
		time.AfterFunc(100*time.Millisecond, func() {
			_, err := db.Exec("INSERT INTO hapax_migrations (version_id, is_applied) VALUES (0, 1)")
			begun <- err
		})
		_, err = tables.Up(t.Context())
		require.NoError(t, err)
		require.NoError(t, <-begun)
	})
}

// People who run their own migrations apply the printed SQL, statement by
// statement. Check must be content with it, under other names too.
func TestThePrintedSQLIsAllThereIs(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, dialect sqldb.Dialect, dsn string) {
		names := schema.Names{Inbox: "order", Outbox: "select", Ledger: "table"}
		if dialect == sqldb.Postgres {
			names.Schema = "events"
		}
		tables, db := open(t, dialect, dsn, names)
		text, err := tables.SQL()
		require.NoError(t, err)
		for statement := range strings.SplitSeq(text, ";\n") {
			if strings.TrimSpace(statement) == "" {
				continue
			}
			_, err := db.Exec(statement)
			require.NoError(t, err, "%s", statement)
		}
		require.NoError(t, tables.Check(t.Context()))
		var rows int
		require.NoError(t, db.QueryRow("SELECT count(*) FROM "+dialect.Quote(names.InboxTable())).Scan(&rows))
	})
}

// A schema may be called as it likes.
func TestASchemaWithTheNameOfAReservedWord(t *testing.T) {
	dsn, names := sqldbtest.New(t, sqldb.Postgres), schema.Names{Schema: "user"}
	tables, db := open(t, sqldb.Postgres, dsn, names)
	require.ErrorIs(t, tables.Check(t.Context()), schema.ErrNotCurrent)
	applied, err := tables.Up(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, applied)
	again, _ := open(t, sqldb.Postgres, dsn, names)
	require.NoError(t, again.Check(t.Context()))
	applied, err = again.Up(t.Context())
	require.NoError(t, err)
	require.Empty(t, applied)
	var rows int
	require.NoError(t, db.QueryRow(`SELECT count(*) FROM "user".hapax_inbox`).Scan(&rows))
}

// A database that was migrated under some names has no tables of others, and says so.
func TestTablesUnderOtherNames(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, dialect sqldb.Dialect, dsn string) {
		first, _ := open(t, dialect, dsn, schema.Names{})
		_, err := first.Up(t.Context())
		require.NoError(t, err)
		require.NoError(t, first.CheckNames(t.Context()))
		for name, names := range map[string]schema.Names{"own_inbox": {Inbox: "own_inbox"}, "own_outbox": {Outbox: "own_outbox"}} {
			other, _ := open(t, dialect, dsn, names)
			applied, err := other.Up(t.Context())
			require.NoError(t, err)
			require.Empty(t, applied)
			require.NoError(t, other.Check(t.Context()))
			require.ErrorContains(t, other.CheckNames(t.Context()), "table "+dialect.QuoteName(name)+" is missing, but the migrations of its database have run")
		}
	})
}

func TestNamesAreChecked(t *testing.T) {
	db := sqldbtest.Open(t, sqldbtest.New(t, sqldb.SQLite), sqldb.Options{})
	for want, names := range map[string]schema.Names{
		`identifier "a b" is not valid`:        {Inbox: "a b"},
		`SQLite has no schemas`:                {Schema: "events"},
		`is used twice`:                        {Inbox: "hapax", Outbox: "hapax"},
		`expected 48 at most`:                  {Inbox: strings.Repeat("x", 49)},
		`expected lower case`:                  {Version: "Version"},
		`identifier "x;drop" is not valid: ex`: {Ledger: "x;drop"},
	} {
		_, err := schema.New(db, sqldb.SQLite, names)
		require.ErrorContains(t, err, want)
	}
}
