package inbox

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// mysqlMarks speaks MySQL and MariaDB. An INSERT does not tell which rows it
// wrote; their token does.
type mysqlMarks struct{ inbox, generations string }

func newMySQLMarks(table sqldb.Table) mysqlMarks {
	return mysqlMarks{sqldb.MySQL.Quote(table), sqldb.MySQL.Quote(table.With("_generations"))}
}

func (mysqlMarks) begin() []string { return []string{`START TRANSACTION`} }

func (m mysqlMarks) lookup(ctx context.Context, q querier, entries []*dedup.Entry) error {
	args := make([]any, len(entries))
	for i, entry := range entries {
		args[i] = entry.ID[:]
	}
	found, err := scanDigests(q.QueryContext(ctx, `SELECT id, digest FROM `+m.inbox+` WHERE id IN `+sqldb.MySQL.Tuples(1, 1, len(args)), args...))
	if err != nil {
		return err
	}
	judge(entries, found)
	return nil
}

// current reads the generation that takes marks, and keeps it from being closed
// before the end of the transaction. A locking read sees the newest rows, even
// under repeatable read.
func (m mysqlMarks) current(ctx context.Context, tx querier) (generation int64, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT generation FROM `+m.generations+` WHERE closed_at IS NULL ORDER BY generation LOCK IN SHARE MODE`)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&generation); err != nil {
			return 0, err
		}
	}
	if generation == 0 && rows.Err() == nil {
		return 0, errors.New("no generation of the inbox is open: run `hapax migrate up`")
	}
	return generation, rows.Err()
}

func (m mysqlMarks) insert(ctx context.Context, tx querier, rows []row) error {
	generation, err := m.current(ctx, tx)
	if err != nil {
		return err
	}
	byID(rows)
	args := make([]any, 0, 9*len(rows))
	ids := make([]any, len(rows))
	entries := make(map[dedup.ID]*dedup.Entry, len(rows))
	for i, r := range rows {
		r.Token = cmp.Or(r.Token, dedup.NextToken())
		r.Verdict = dedup.InFlight // until it is seen
		ids[i], entries[r.ID] = r.ID[:], r.Entry
		args = append(args, generation, r.ID[:], r.Digest[:], r.Token,
			readable(r.Scope.Service, nameLimit), readable(r.Scope.Handler, nameLimit), readable(r.EventID, textLimit), readable(r.kind, textLimit))
	}
	// IGNORE would also ignore what else may be wrong with a row.
	_, err = tx.ExecContext(ctx, `INSERT INTO `+m.inbox+` (generation, id, digest, token, service, handler, event_id, event_type, processed_at) VALUES `+
		mysqlRows(len(rows))+` ON DUPLICATE KEY UPDATE token = `+m.inbox+`.token`, args...)
	if err != nil {
		return err
	}
	return m.seen(ctx, tx, ids, entries, generation)
}

// mysqlRows is the rows of an INSERT, with the server's time in each.
func mysqlRows(count int) string {
	text := make([]byte, 0, 48*count)
	for i := range count {
		if i > 0 {
			text = append(text, ", "...)
		}
		text = append(text, "(?, ?, ?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(6))"...)
	}
	return string(text)
}

// seen reads what stands in all generations. An ID may have a mark in an older one
// beside that just written, which is then taken out again.
func (m mysqlMarks) seen(ctx context.Context, tx querier, ids []any, entries map[dedup.ID]*dedup.Entry, generation int64) error {
	found, err := tx.QueryContext(ctx, `SELECT generation, id, digest, token FROM `+m.inbox+` WHERE id IN `+sqldb.MySQL.Tuples(1, 1, len(ids)), ids...)
	if err != nil {
		return err
	}
	defer found.Close()
	older := map[dedup.ID]bool{}
	var mine []dedup.ID
	for found.Next() {
		var at int64
		var token uint64
		var id, digest sql.RawBytes
		if err := found.Scan(&at, &id, &digest, &token); err != nil {
			return err
		}
		entry := entries[dedup.ID(id)]
		switch {
		case at == generation && token == entry.Token:
			mine = append(mine, entry.ID)
			continue
		case dedup.Digest(digest).Matches(entry.Digest):
			entry.Verdict = dedup.Duplicate
		default:
			entry.Verdict = dedup.Conflict
		}
		older[entry.ID] = at < generation
	}
	if err := errors.Join(found.Err(), found.Close()); err != nil {
		return err
	}
	var twice []row
	for _, id := range mine {
		if entry := entries[id]; older[id] {
			twice = append(twice, row{Entry: entry})
		} else {
			entry.Verdict = dedup.Fresh
		}
	}
	if len(twice) == 0 {
		return nil
	}
	return m.remove(ctx, tx, twice)
}

func (m mysqlMarks) remove(ctx context.Context, tx querier, rows []row) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM `+m.inbox+mine(rows), mineArgs(rows)...)
	return err
}

func (m mysqlMarks) result(ctx context.Context, tx querier, rows []row, result json.RawMessage) error {
	_, err := tx.ExecContext(ctx, `UPDATE `+m.inbox+` SET result = ?`+mine(rows), append([]any{string(result)}, mineArgs(rows)...)...)
	return err
}

// mine are the rows that this transaction has written. Pairs of ID and token
// would say it better, but MariaDB reads the whole table for them.
func mine(rows []row) string {
	list := sqldb.MySQL.Tuples(1, 1, len(rows))
	return ` WHERE id IN ` + list + ` AND token IN ` + list
}

func mineArgs(rows []row) []any {
	args := make([]any, 2*len(rows))
	for i, r := range rows {
		args[i], args[len(rows)+i] = r.ID[:], r.Token
	}
	return args
}
