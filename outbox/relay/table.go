package relay

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// A row's states. Zero waits to be published.
const (
	statePublished = 1
	stateParked    = 2
)

// Table is an outbox as relays and people see it: what waits, what is parked.
type Table struct {
	db      *sql.DB
	dialect sqldb.Dialect
	name    sqldb.Table

	// rows, shards and relays are the quoted names of the three tables.
	rows, shards, relays string
	// now is the database's clock, millis the same as a number.
	now, millis string
}

// NewTable returns the outbox of a database.
func NewTable(db *sql.DB, config outbox.Config) (*Table, error) {
	config, err := config.Resolve()
	if err != nil {
		return nil, err
	}
	t := &Table{db: db, dialect: config.Dialect, name: config.Table}
	t.rows = t.dialect.Quote(t.name)
	t.shards = t.dialect.Quote(t.name.With("_shards"))
	t.relays = t.dialect.Quote(t.name.With("_relays"))
	switch t.dialect {
	case sqldb.MySQL:
		// Not UNIX_TIMESTAMP(NOW()): that goes through the local time, which an
		// hour each year has twice.
		t.now, t.millis = "UTC_TIMESTAMP(6)", "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000)"
	case sqldb.SQLite:
		t.now, t.millis = "strftime('%Y-%m-%d %H:%M:%f', 'now')", "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
	default:
		t.now, t.millis = "clock_timestamp()", "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)"
	}
	return t, nil
}

// exec runs a statement with ? for placeholders, and says how many rows it met. It is a
// transaction by itself.
func (t *Table) exec(ctx context.Context, query string, args ...any) (int, error) {
	result, err := t.db.ExecContext(ctx, t.dialect.Rebind(query), args...)
	if sqldb.Retryable(err) && t.dialect != sqldb.SQLite {
		result, err = t.execAgain(ctx, query, args)
	}
	if err != nil {
		return 0, t.explain(err)
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// execAgain runs a statement that failed because of others at the same time. Under the
// isolation that sql.isolation asks for it might fail again for as long as their
// transactions last; read committed is enough for a relay.
func (t *Table) execAgain(ctx context.Context, query string, args []any) (sql.Result, error) {
	tx, err := t.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return nil, err
	}
	defer tx.Rollback() //nolint:errcheck // after a COMMIT it does nothing
	result, err := tx.ExecContext(ctx, t.dialect.Rebind(query), args...)
	if err != nil {
		return nil, err
	}
	return result, tx.Commit()
}

// query calls each for every row.
func (t *Table) query(ctx context.Context, each func(*sql.Rows) error, query string, args ...any) error {
	return t.queryOn(ctx, t.db, each, query, args...)
}

type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func (t *Table) queryOn(ctx context.Context, on queryer, each func(*sql.Rows) error, query string, args ...any) error {
	rows, err := on.QueryContext(ctx, t.dialect.Rebind(query), args...)
	if err != nil {
		return t.explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (t *Table) explain(err error) error {
	if sqldb.IsMissing(err) {
		return fmt.Errorf("table %s is missing, or older than this version: run `hapax migrate up`: %w", t.rows, err)
	}
	return err
}

// claimed is a row that a relay works on.
type claimed struct {
	id       int64
	shard    int
	attempts int
	topic    string
	key      string
	message  *message.Message
	broken   error // why the row does not make a message
}

// maxBatchBytes is how much of payloads a batch has, after which it is over: a backlog
// of large rows must not take more memory than there is.
const maxBatchBytes = 8 << 20

var errEnough = errors.New("the batch is large enough")

// waiting reads rows of shards that wait, in the order of shards and within them
// of ids, but for what is hidden. It reports whether there may be more, and whether
// that is because the rows are large.
func (t *Table) waiting(ctx context.Context, shards []int, limit int, hidden hidden) (batch []claimed, more, large bool, err error) {
	size := 0
	query := "SELECT shard, attempts, topic, message_key, " + outbox.MessageColumns + " FROM " + t.rows +
		" WHERE state = 0 AND shard IN (" + join(shards) + ")"
	args := make([]any, 0, len(hidden.keys)+len(hidden.topics)+1)
	without := func(column string, values []string) {
		if len(values) == 0 {
			return
		}
		query += " AND " + column + " NOT IN (" + strings.Repeat("?, ", len(values)-1) + "?)"
		for _, value := range values {
			args = append(args, value)
		}
	}
	if len(hidden.ids) > 0 {
		query += " AND id NOT IN (" + join(hidden.ids) + ")"
	}
	without("message_key", hidden.keys)
	without("topic", hidden.topics)
	query += " ORDER BY shard, id LIMIT ?"
	err = t.inOrder(ctx, func(rows *sql.Rows) error {
		var c claimed
		var err error
		c.id, c.message, err = outbox.Decode(behind{rows, []any{&c.shard, &c.attempts, &c.topic, &c.key}})
		if err != nil && c.id == 0 {
			return err
		}
		c.broken = err
		batch = append(batch, c)
		if c.message != nil {
			size += len(c.message.Payload)
		}
		if size >= maxBatchBytes {
			return errEnough
		}
		return nil
	}, query, append(args, limit)...)
	large = errors.Is(err, errEnough)
	if err != nil && !large {
		return nil, false, false, fmt.Errorf("read outbox: %w", err)
	}
	return batch, large || len(batch) == limit, large, nil
}

// inOrder is a query whose plan must follow the index. PostgreSQL's statistics of
// an outbox are those of an empty table until some time after a burst began, and
// for a few rows it would rather read and sort them all: each time the whole
// backlog, for one batch.
func (t *Table) inOrder(ctx context.Context, each func(*sql.Rows) error, query string, args ...any) error {
	if t.dialect != sqldb.Postgres {
		return t.query(ctx, each, query, args...)
	}
	// Stricter levels would make it fail because of those who write, or them because of it.
	tx, err := t.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // it only reads
	_, err = tx.ExecContext(ctx, "SELECT set_config(name, 'off', true) FROM unnest(ARRAY['enable_bitmapscan', 'enable_seqscan', 'enable_sort']) AS s(name)")
	if err != nil {
		return err
	}
	if err := t.queryOn(ctx, tx, each, query, args...); err != nil {
		return err
	}
	return tx.Commit()
}

// behind scans the columns that stand before those of another reader.
type behind struct {
	rows  *sql.Rows
	first []any
}

// Scan implements the scanner of outbox.Decode.
func (b behind) Scan(dest ...any) error { return b.rows.Scan(append(b.first, dest...)...) }

// settle records that rows are published: it deletes them, or keeps them.
func (t *Table) settle(ctx context.Context, ids []int64, keep bool) error {
	// Numbers go into the text where that saves a round trip; on PostgreSQL one
	// text for all keeps the statement prepared.
	which, args := "id IN ("+join(ids)+")", []any(nil)
	if t.dialect == sqldb.Postgres {
		which, args = "id = ANY(CAST(CAST(? AS text) AS bigint[]))", []any{"{" + join(ids) + "}"}
	}
	query := "DELETE FROM " + t.rows + " WHERE " + which
	if keep {
		query = "UPDATE " + t.rows + " SET state = " + strconv.Itoa(statePublished) + ", settled_at = " + t.now + " WHERE " + which
	}
	if _, err := t.exec(ctx, query, args...); err != nil {
		return fmt.Errorf("settle outbox rows: %w", err)
	}
	return nil
}

// failed records a failed try, and parks the row if it was the last one. Only the
// owner of the row's shard may.
func (t *Table) failed(ctx context.Context, c claimed, lease lease, reason string, park bool) error {
	state, settled := "0", "NULL"
	if park {
		state, settled = strconv.Itoa(stateParked), t.now
	}
	_, err := t.exec(ctx, "UPDATE "+t.rows+" SET attempts = ?, reason = ?, state = "+state+", settled_at = "+settled+
		" WHERE id = ? AND state = 0 AND EXISTS (SELECT 1 FROM "+t.shards+" WHERE shard = ? AND token = ? AND owner = ?)",
		c.attempts+1, reason, c.id, lease.shard, lease.token, lease.owner)
	if err != nil {
		return fmt.Errorf("record failure of outbox row %d: %w", c.id, err)
	}
	return nil
}

// anyWaiting reports whether there are rows that wait.
func (t *Table) anyWaiting(ctx context.Context) (found bool, err error) {
	err = t.query(ctx, func(*sql.Rows) error { found = true; return nil },
		"SELECT 1 FROM "+t.rows+" WHERE state = 0 LIMIT 1")
	return found, err
}

const pruneRows = 5000

// prune deletes some published rows that are older than retention, and reports
// whether there may be more.
func (t *Table) prune(ctx context.Context, retention time.Duration) (more bool, err error) {
	which := "state = " + strconv.Itoa(statePublished) + " AND settled_at < "
	limited := func(old string) string {
		return "DELETE FROM " + t.rows + " WHERE id IN (SELECT id FROM " + t.rows + " WHERE " + which + old + " ORDER BY settled_at LIMIT " + strconv.Itoa(pruneRows) + ")"
	}
	var query string
	switch t.dialect {
	case sqldb.MySQL: // has no LIMIT in a subquery
		query = "DELETE FROM " + t.rows + " WHERE " + which + t.now + " - INTERVAL ? SECOND ORDER BY settled_at LIMIT " + strconv.Itoa(pruneRows)
	case sqldb.SQLite:
		query = limited("strftime('%Y-%m-%d %H:%M:%f', 'now', '-' || ? || ' seconds')")
	default:
		query = limited(t.now + " - make_interval(secs => ?)")
	}
	n, err := t.exec(ctx, query, retention.Seconds())
	if err != nil {
		return false, fmt.Errorf("remove published outbox rows: %w", err)
	}
	return n == pruneRows, nil
}

// join writes numbers as SQL lists them.
func join[N int | int64](numbers []N) string {
	var text strings.Builder
	for i, number := range numbers {
		if i > 0 {
			text.WriteByte(',')
		}
		text.WriteString(strconv.FormatInt(int64(number), 10))
	}
	return text.String()
}
