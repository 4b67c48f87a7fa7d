package effects

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/hapax-go/hapax/internal/fault"
)

// Execer is a *sql.DB, *sql.Conn or *sql.Tx.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// patience is how long writers wait for each other.
const patience = 30 * time.Second

// Open opens a SQLite file for many processes at once and makes its tables.
// Writers wait for each other for up to 30 seconds.
func Open(ctx context.Context, path string) (*sql.DB, error) {
	options := url.Values{
		"_pragma": {fmt.Sprintf("busy_timeout(%d)", patience.Milliseconds()), "journal_mode(WAL)", "synchronous(OFF)"},
		"_txlock": {"immediate"}, // a read that turns into a write cannot wait: it would fail
	}
	db, err := sql.Open("sqlite", "file:"+url.PathEscape(path)+"?"+options.Encode())
	if err != nil {
		return nil, fmt.Errorf("open effects %s: %w", path, err)
	}
	// When several processes open a new file at once, the change to WAL fails
	// for all but one: SQLite does not wait there, because it could wait in a
	// circle.
	deadline := time.Now().Add(patience)
	for err = EnsureSchema(ctx, db); busy(err) && time.Now().Before(deadline); err = EnsureSchema(ctx, db) {
		time.Sleep(5 * time.Millisecond)
	}
	if err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("open effects %s: %w", path, err)
	}
	return db, nil
}

func busy(err error) bool {
	var failure *sqlite.Error
	return errors.As(err, &failure) && failure.Code()&0xff == sqlite3.SQLITE_BUSY
}

// The row number is SQLite's; all else is common to the SQL databases.
var schema = []string{
	`CREATE TABLE IF NOT EXISTS effects (
		seq       INTEGER PRIMARY KEY AUTOINCREMENT,
		event_id  VARCHAR(255) NOT NULL,
		event_key VARCHAR(255) NOT NULL,
		n         BIGINT       NOT NULL,
		consumer  VARCHAR(255) NOT NULL,
		at        BIGINT       NOT NULL
	)`,
	`CREATE TABLE IF NOT EXISTS deliveries (
		event_id VARCHAR(255) NOT NULL,
		copy     INTEGER      NOT NULL,
		consumer VARCHAR(255) NOT NULL,
		attempt  INTEGER      NOT NULL,
		at       BIGINT       NOT NULL
	)`,
}

// EnsureSchema makes the tables in a SQLite database that somebody else opened,
// such as the one a handler's inbox uses.
func EnsureSchema(ctx context.Context, db Execer) error {
	for _, statement := range schema {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("make tables of effects: %w", err)
		}
	}
	return nil
}

// Insert adds an effect; Position is given by the store. It commits with the
// transaction it is given.
func Insert(ctx context.Context, db Execer, effect fault.Effect) error {
	_, err := db.ExecContext(ctx, `INSERT INTO effects (event_id, event_key, n, consumer, at) VALUES (?, ?, ?, ?, ?)`,
		effect.ID, effect.Key, effect.Seq, effect.Consumer, time.Now().UnixMicro())
	if err != nil {
		return fmt.Errorf("insert effect of %s: %w", effect.ID, err)
	}
	return nil
}

// InsertDelivery adds a delivery. Give it a *sql.DB, not the handler's
// transaction: a delivery counts even when its handler fails. That database must
// be another file than the one the handler's transaction is on, because the
// transaction may hold that file's only write lock already.
func InsertDelivery(ctx context.Context, db Execer, delivery fault.Delivery) error {
	_, err := db.ExecContext(ctx, `INSERT INTO deliveries (event_id, copy, consumer, attempt, at) VALUES (?, ?, ?, ?, ?)`,
		delivery.ID, delivery.Copy, delivery.Consumer, delivery.Attempt, time.Now().UnixMicro())
	if err != nil {
		return fmt.Errorf("insert delivery of %s: %w", delivery.ID, err)
	}
	return nil
}
