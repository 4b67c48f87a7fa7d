package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Synchronous says when SQLite waits for the disk.
type Synchronous string

const (
	// Full waits at every commit: nothing committed is lost, whatever dies.
	Full Synchronous = "full"
	// Normal waits at checkpoints only: a power cut may lose the last commits,
	// the death of the process loses none.
	Normal Synchronous = "normal"
	// Off never waits. For throw-away data only.
	Off Synchronous = "off"
)

// busyTimeout is how long a writer waits for its turn. SQLite has no queue of writers: on a
// busy machine, beside several other processes, one can go without for seconds.
const busyTimeout = 15 * time.Second

// openSQLite opens what follows sqlite: or file: in a DSN.
func openSQLite(ctx context.Context, rest string) (*sql.DB, error) {
	path, query, _ := strings.Cut(rest, "?")
	path = strings.TrimPrefix(path, "//") // sqlite:///var/x.db and file:///var/x.db
	options, err := url.ParseQuery(query)
	if err != nil {
		return nil, errors.New("open database: the DSN's options are not key=value pairs joined by &")
	}
	synchronous := Full
	for key := range options {
		if key != "synchronous" {
			return nil, fmt.Errorf("open database: DSN option %q is not known: expected synchronous", key)
		}
		synchronous = Synchronous(strings.ToLower(options.Get(key)))
	}
	return OpenSQLite(ctx, path, synchronous)
}

// OpenSQLite opens, and creates, a SQLite file.
func OpenSQLite(ctx context.Context, path string, synchronous Synchronous) (*sql.DB, error) {
	switch synchronous {
	case "":
		synchronous = Full
	case Full, Normal, Off:
	default:
		return nil, fmt.Errorf("open database: synchronous is %q, expected %s, %s or %s", synchronous, Full, Normal, Off)
	}
	if path == "" || strings.Contains(path, ":memory:") {
		return nil, fmt.Errorf("open database: path is %q, expected a file: every connection to an in-memory database would see another one", path)
	}
	options := url.Values{"_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(" + strconv.FormatInt(busyTimeout.Milliseconds(), 10) + ")",
		"foreign_keys(1)", "journal_mode(wal)", "synchronous(" + string(synchronous) + ")",
	}}
	name := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: options.Encode()}).String()
	db, err := sql.Open("sqlite", name)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	if err := ping(ctx, db, path); err != nil {
		_ = db.Close()
		return nil, err
	}
	return db, nil
}

// ping reads the file's header, which opening alone does not. Several processes
// that create the file at the same moment can meet while one of them turns WAL
// on; SQLite reports that as busy without waiting.
func ping(ctx context.Context, db *sql.DB, path string) error {
	deadline := time.Now().Add(busyTimeout)
	for {
		var pages int
		err := db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema`).Scan(&pages)
		if IsBusy(err) && time.Now().Before(deadline) && ctx.Err() == nil {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		return explain(path, err)
	}
}

// explain says in the user's words what SQLite's result codes mean for a file.
func explain(path string, err error) error {
	switch code(err) {
	case sqlite3.SQLITE_CANTOPEN:
		return fmt.Errorf("open database %s: the file cannot be opened or created: check that the folder exists and is writable: %w", path, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return fmt.Errorf("open database %s: the file or its folder is not writable by this user: SQLite writes %s-wal beside it: %w", path, path, err)
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("open database %s: the file is not a SQLite database, or is damaged: move it away, or restore it from a backup: %w", path, err)
	}
	if err != nil {
		return fmt.Errorf("open database %s: %w", path, err)
	}
	return nil
}

// IsBusy reports whether a statement failed only because another connection
// holds the lock: nothing happened, and it can be tried again.
func IsBusy(err error) bool {
	return code(err) == sqlite3.SQLITE_BUSY || code(err) == sqlite3.SQLITE_LOCKED
}

// code is the primary result code of a SQLite error, or 0.
func code(err error) int { return extended(err) & 0xff }

// extended is the extended result code of a SQLite error, or 0.
func extended(err error) int {
	if failure, ok := errors.AsType[*sqlite.Error](err); ok {
		return failure.Code()
	}
	return 0
}

// missingText: SQLite has one code for every error of preparing a statement.
func missingText(err error) bool {
	text := err.Error()
	return strings.Contains(text, "no such table") || strings.Contains(text, "no such column")
}
