package sqldb_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

func pragma(t *testing.T, db *sql.DB, name string) (value string) {
	t.Helper()
	require.NoError(t, db.QueryRow("PRAGMA "+name).Scan(&value))
	return value
}

func TestOpenSetsWhatTheGuaranteesRestOn(t *testing.T) {
	folder := t.TempDir()
	for dsn, synchronous := range map[string]string{
		filepath.Join(folder, "a b#c%d.db"):                               "2",
		"sqlite:" + filepath.Join(folder, "b.db"):                         "2",
		"file:" + filepath.Join(folder, "c.db"):                           "2",
		"sqlite://" + filepath.Join(folder, "d.db"):                       "2",
		"sqlite:" + filepath.Join(folder, "e.db") + "?synchronous=normal": "1",
	} {
		t.Run(dsn, func(t *testing.T) {
			db, dialect, err := sqldb.Open(t.Context(), dsn)
			require.NoError(t, err)
			defer db.Close()
			require.Equal(t, sqldb.SQLite, dialect)
			require.Equal(t, synchronous, pragma(t, db, "synchronous"))
			require.Equal(t, "wal", pragma(t, db, "journal_mode"))
			require.Equal(t, "1", pragma(t, db, "foreign_keys"))
			require.Equal(t, "15000", pragma(t, db, "busy_timeout"))
			// BEGIN takes the write lock: another one has to wait.
			tx, err := db.Begin()
			require.NoError(t, err)
			defer tx.Rollback() //nolint:errcheck // ends the test
			conn, err := db.Conn(t.Context())
			require.NoError(t, err)
			defer conn.Close()
			_, err = conn.ExecContext(t.Context(), "PRAGMA busy_timeout = 0")
			require.NoError(t, err)
			_, err = conn.BeginTx(t.Context(), nil)
			require.True(t, sqldb.IsBusy(err), "%v", err)
		})
	}
	names, err := filepath.Glob(filepath.Join(folder, "*.db"))
	require.NoError(t, err)
	require.Len(t, names, 5, "%s", names)
}

func TestOpenSaysWhatIsWrongAndNoSecrets(t *testing.T) {
	folder := t.TempDir()
	damaged := filepath.Join(folder, "damaged.db")
	require.NoError(t, os.WriteFile(damaged, []byte(strings.Repeat("no database ", 100)), 0o600))
	for dsn, want := range map[string]string{
		"oracle://user:secret@host/db":  `scheme "oracle" is not known`,
		"":                              "expected a file",
		":memory:":                      "expected a file",
		"sqlite:x.db?password=secret":   `DSN option "password" is not known: expected synchronous`,
		"sqlite:x.db?synchronous=maybe": `synchronous is "maybe", expected full, normal or off`,
		"Host=db password=secret":       `keyword "Host" is not known: PostgreSQL's are written in small letters`,
		"PASSWORD = 'secret' HOST=db":   `keyword "PASSWORD" is not known`,
		// Passwords that are not percent-encoded end the authority, or the user, too soon.
		"postgres://user:12/secret@127.0.0.1:1/db": "must be percent-encoded",
		"postgres://user:12@secret@127.0.0.1:1/db": "must be percent-encoded",
		"mysql://user:12/secret@127.0.0.1:1/db":    "must be percent-encoded",
		"mysql://user:12#secret@127.0.0.1:1/db":    "must be percent-encoded",
		"mariadb://secret/12@127.0.0.1:1/db":       "must be percent-encoded",
		filepath.Join(folder, "missing", "x.db"):   "check that the folder exists and is writable",
		damaged:                                    "is not a SQLite database, or is damaged",
	} {
		_, _, err := sqldb.Open(t.Context(), dsn)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestValidateIdentifier(t *testing.T) {
	for _, name := range []string{"orders", "_x", "A1", strings.Repeat("x", 63)} {
		require.NoError(t, sqldb.ValidateIdentifier(name))
	}
	for _, name := range []string{"", "1x", "a b", "a;drop", "ü", "a.b", strings.Repeat("x", 64)} {
		require.Error(t, sqldb.ValidateIdentifier(name))
	}
}

// answering is a connection to MySQL that has a variable at zero, or has not, or is lost.
type answering struct {
	driver.Conn
	zero, lost bool
}

func (a answering) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	if a.lost {
		return nil, driver.ErrBadConn
	}
	return &answers{left: a.zero}, nil
}

type answers struct{ left bool }

func (*answers) Columns() []string { return []string{"1"} }
func (*answers) Close() error      { return nil }
func (a *answers) Next([]driver.Value) error {
	if !a.left {
		return io.EOF
	}
	a.left = false
	return nil
}

// A lock that was not had in time undoes the statement, unless MySQL is told to undo the
// transaction (innodb_rollback_on_timeout).
func TestWhatALockTimeoutUndoes(t *testing.T) {
	timeout, deadlock, other := &mysql.MySQLError{Number: 1205}, &mysql.MySQLError{Number: 1213}, &mysql.MySQLError{Number: 1062}
	require.False(t, sqldb.Undone(t.Context(), answering{zero: true}, timeout))
	require.True(t, sqldb.Undone(t.Context(), answering{}, timeout))
	require.True(t, sqldb.Undone(t.Context(), answering{lost: true}, timeout))
	require.True(t, sqldb.Undone(t.Context(), answering{zero: true}, deadlock))
	require.False(t, sqldb.Undone(t.Context(), answering{lost: true}, other))
}
