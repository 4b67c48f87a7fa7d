package inbox

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// sqliteMarks speaks SQLite, where a statement costs no round trip.
type sqliteMarks struct{ lookupSQL, insertSQL, removeSQL, resultSQL, expireSQL string }

func newSQLiteMarks(table sqldb.Table) *sqliteMarks {
	inbox := sqldb.SQLite.Quote(table)
	return &sqliteMarks{
		lookupSQL: `SELECT id, digest FROM ` + inbox + ` WHERE id IN `,
		insertSQL: `INSERT INTO ` + inbox + ` (id, digest, processed_at, service, handler, event_id, event_type) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
		removeSQL: `DELETE FROM ` + inbox + ` WHERE id = ?`,
		resultSQL: `UPDATE ` + inbox + ` SET result = ? WHERE id = ?`,
		// In the order in which they were processed, which is that of the table.
		expireSQL: `DELETE FROM ` + inbox + ` WHERE number IN (SELECT number FROM ` + inbox + ` ORDER BY number LIMIT ?) AND processed_at < ?`,
	}
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
