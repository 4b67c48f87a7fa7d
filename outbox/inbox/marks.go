package inbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/coalesce"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// marks is the table of processed events.
type marks struct {
	db      *sql.DB
	dialect sqldb.Dialect
	table   sqldb.Table
	window  time.Duration
	sql     dialectMarks
	lookups *coalesce.Ledger
}

// dialectMarks is what differs between databases.
type dialectMarks interface {
	// begin are the statements that begin a transaction, so that its marks go to
	// a generation that cannot be closed before its end (see generations.go).
	begin() []string
	// lookup sets Verdict from what is committed.
	lookup(ctx context.Context, q querier, entries []*dedup.Entry) error
	// insert writes marks in the order of their IDs and sets Verdict: Fresh for
	// those that were written. No ID occurs twice. Where another transaction has
	// written the same ID and has not ended, it waits for that.
	insert(ctx context.Context, tx querier, rows []row) error
	// remove takes marks out again that insert has written in this transaction.
	remove(ctx context.Context, tx querier, rows []row) error
	// result stores a handler's result with its marks.
	result(ctx context.Context, tx querier, rows []row, result json.RawMessage) error
}

// row is one event's mark.
type row struct {
	*dedup.Entry
	kind string
}

// rowOf is the mark of an event. The type is that of a CloudEvent, else the topic.
func rowOf(event *dedup.Event) row {
	kind := event.Message.Metadata.Get("ce_type")
	if kind == "" {
		kind = event.Topic
	}
	return row{&event.Entry, kind}
}

type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func openMarks(db *sql.DB, dialect sqldb.Dialect, table sqldb.Table, window time.Duration) (*marks, error) {
	if err := table.Validate(dialect); err != nil {
		return nil, err
	}
	m := &marks{db: db, dialect: dialect, table: table, window: window}
	switch dialect {
	case sqldb.Postgres:
		m.sql = newPostgresMarks(table)
	case sqldb.MySQL:
		m.sql = newMySQLMarks(table)
	case sqldb.SQLite:
		m.sql = newSQLiteMarks(table)
	default:
		return nil, fmt.Errorf("dialect %q is not known", dialect)
	}
	m.lookups = coalesce.New(lookups{m})
	return m, nil
}

func (m *marks) close() error { return m.lookups.Close() }

// lookups makes lookups of concurrent deliveries share a round trip.
type lookups struct{ *marks }

// Claim implements dedup.Ledger.
func (l lookups) Claim(ctx context.Context, _ time.Duration, entries []*dedup.Entry) error {
	for _, entry := range entries {
		entry.Verdict = dedup.Fresh
	}
	return l.sql.lookup(ctx, l.db, entries)
}

// Renew implements dedup.Ledger.
func (lookups) Renew(context.Context, time.Duration, []*dedup.Entry) error { return nil }

// Complete implements dedup.Ledger.
func (lookups) Complete(context.Context, []*dedup.Entry) error { return nil }

// Release implements dedup.Ledger.
func (lookups) Release(context.Context, []*dedup.Entry) error { return nil }

// Close implements dedup.Ledger.
func (lookups) Close() error { return nil }

// judge sets the verdict of the entries whose mark another has written.
func judge(entries []*dedup.Entry, found map[dedup.ID]dedup.Digest) {
	for _, entry := range entries {
		digest, marked := found[entry.ID]
		switch {
		case !marked:
		case digest.Matches(entry.Digest):
			entry.Verdict = dedup.Duplicate
		default:
			entry.Verdict = dedup.Conflict
		}
	}
}

// scanDigests reads rows of ID and digest.
func scanDigests(rows *sql.Rows, err error) (map[dedup.ID]dedup.Digest, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := map[dedup.ID]dedup.Digest{}
	var id, digest sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&id, &digest); err != nil {
			return nil, err
		}
		found[dedup.ID(id)] = dedup.Digest(digest)
	}
	return found, rows.Err()
}

// readable makes a producer's text fit for a column of at most limit characters:
// PostgreSQL takes no zero bytes and no text that is not UTF-8, and one such ID
// must not fail the whole group.
func readable(text string, limit int) string {
	if strings.IndexByte(text, 0) >= 0 || !utf8.ValidString(text) {
		text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	}
	if len(text) <= limit {
		return text
	}
	runes := []rune(text)
	return string(runes[:min(limit, len(runes))])
}

const (
	nameLimit = 255
	textLimit = 1024
)
