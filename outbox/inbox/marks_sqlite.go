package inbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"
	"time"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// sqliteMarks speaks SQLite, where a statement costs no round trip.
type sqliteMarks struct {
	lookupSQL, insertSQL, removeSQL, resultSQL, expireSQL string
	windowsSQL, knownSQL, noteSQL, forgetSQL, longestSQL  string
}

func newSQLiteMarks(table sqldb.Table) *sqliteMarks {
	inbox, windows := sqldb.SQLite.Quote(table), sqldb.SQLite.Quote(table.With("_windows"))
	return &sqliteMarks{
		lookupSQL: `SELECT id, digest FROM ` + inbox + ` WHERE id IN `,
		insertSQL: `INSERT INTO ` + inbox + ` (id, digest, processed_at, service, handler, event_id, event_type) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
		removeSQL: `DELETE FROM ` + inbox + ` WHERE id = ?`,
		resultSQL: `UPDATE ` + inbox + ` SET result = ? WHERE id = ?`,
		// In the order in which they were processed, which is that of the table.
		expireSQL: `DELETE FROM ` + inbox + ` WHERE number IN (SELECT number FROM ` + inbox + ` ORDER BY number LIMIT ?) AND processed_at < ?`,
		// The windows that processes have opened the table with, and when they last said so.
		windowsSQL: `CREATE TABLE IF NOT EXISTS ` + windows + ` (milliseconds INTEGER PRIMARY KEY, seen_at INTEGER NOT NULL) STRICT`,
		knownSQL:   `SELECT count(*) FROM ` + windows + ` WHERE milliseconds = ?1 AND seen_at BETWEEN ?2 - ?1 / 4 AND ?2`,
		noteSQL:    `INSERT INTO ` + windows + ` (milliseconds, seen_at) VALUES (?1, ?2) ON CONFLICT (milliseconds) DO UPDATE SET seen_at = ?2`,
		forgetSQL:  `DELETE FROM ` + windows + ` WHERE seen_at + 2 * milliseconds < ?`,
		longestSQL: `SELECT max(milliseconds) FROM ` + windows,
	}
}

// register notes the window, for others that share the table, before the first mark is
// made under it. Where it is known there is nothing to write, so nobody to wait for.
func (s *sqliteMarks) register(ctx context.Context, db *sql.DB, window time.Duration) error {
	now := time.Now().UnixMilli()
	known := 0
	err := db.QueryRowContext(ctx, s.knownSQL, window.Milliseconds(), now).Scan(&known)
	if known > 0 && err == nil {
		return nil
	}
	if _, err := db.ExecContext(ctx, s.windowsSQL); err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, s.noteSQL, window.Milliseconds(), now)
	return err
}

// longest is the longest window under which marks may live. A process that runs says a few
// times in a quarter of its window that it does, so one that has not for two windows has no
// mark that counts.
func (s *sqliteMarks) longest(ctx context.Context, tx querier, window time.Duration) (time.Duration, error) {
	now := time.Now().UnixMilli()
	if _, err := tx.ExecContext(ctx, s.noteSQL, window.Milliseconds(), now); err != nil {
		return 0, err
	}
	if _, err := tx.ExecContext(ctx, s.forgetSQL, now); err != nil {
		return 0, err
	}
	rows, err := tx.QueryContext(ctx, s.longestSQL)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var milliseconds int64
	for rows.Next() {
		if err := rows.Scan(&milliseconds); err != nil {
			return 0, err
		}
	}
	return time.Duration(milliseconds) * time.Millisecond, rows.Err()
}

func (*sqliteMarks) begin() []string { return nil } // the group begins its own

func (s *sqliteMarks) lookup(ctx context.Context, q querier, entries []*dedup.Entry) error {
	args := make([]any, len(entries))
	for i, entry := range entries {
		args[i] = entry.ID[:]
	}
	found, err := scanDigests(q.QueryContext(ctx, s.lookupSQL+"("+strings.TrimSuffix(strings.Repeat("?,", len(args)), ",")+")", args...))
	if err != nil {
		return err
	}
	judge(entries, found)
	return nil
}

func (s *sqliteMarks) insert(ctx context.Context, tx querier, rows []row) error {
	now := time.Now().UnixMilli()
	for _, r := range rows {
		result, err := tx.ExecContext(ctx, s.insertSQL, r.ID[:], r.Digest[:], now, r.Scope.Service, r.Scope.Handler,
			readable(r.EventID, textLimit), readable(r.kind, textLimit))
		if err != nil {
			return err
		}
		written, err := result.RowsAffected()
		if err != nil {
			return err
		}
		r.Verdict = dedup.Fresh
		if written == 0 {
			if err := s.lookup(ctx, tx, []*dedup.Entry{r.Entry}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *sqliteMarks) remove(ctx context.Context, tx querier, rows []row) error {
	for _, r := range rows {
		if _, err := tx.ExecContext(ctx, s.removeSQL, r.ID[:]); err != nil {
			return err
		}
	}
	return nil
}

func (s *sqliteMarks) result(ctx context.Context, tx querier, rows []row, result json.RawMessage) error {
	for _, r := range rows {
		if _, err := tx.ExecContext(ctx, s.resultSQL, string(result), r.ID[:]); err != nil {
			return err
		}
	}
	return nil
}
