package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// reads are the queries that need no lock. They see what was committed when they
// began; whoever acts on that checks it again inside the writer's transaction.
type reads struct {
	view, next, at *sql.Stmt
}

func (r *reads) prepare(ctx context.Context, db *sql.DB) (err error) {
	for _, query := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&r.view, selectView}, {&r.next, selectMessages},
		{&r.at, `SELECT m.position, m.uuid, m.metadata, m.payload FROM json_each(?) l CROSS JOIN hapax_messages m ON m.position = l.value`},
	} {
		if *query.stmt, err = db.PrepareContext(ctx, query.text); err != nil {
			return fmt.Errorf("prepare query: %w", err)
		}
	}
	return nil
}

func (r *reads) close() error {
	return errors.Join(r.view.Close(), r.next.Close(), r.at.Close())
}

// view is a look at a group without a lock.
type view struct {
	cursor int64
	free   bool // has free rows
	full   bool // has so many free rows, or so much mail, that the cursor should stay
	others bool // has other members
	dead   bool // has other members whose lease has run out
	ready  bool // has mail for this member, or free rows that it could look at
}

const selectView = `
SELECT g.cursor,
	(SELECT count(*) FROM (SELECT 1 FROM hapax_pending INDEXED BY hapax_pending_free WHERE grp = g.id AND owner = 0 LIMIT ?4)),
	(SELECT count(*) FROM (SELECT 1 FROM hapax_consumers c CROSS JOIN hapax_pending p INDEXED BY hapax_pending_mail ON p.owner = c.id AND p.mail = 1 WHERE c.grp = g.id LIMIT ?4)),
	EXISTS (SELECT 1 FROM hapax_consumers WHERE grp = g.id AND id <> ?2),
	EXISTS (SELECT 1 FROM hapax_consumers WHERE grp = g.id AND id <> ?2 AND lease_until < ?3),
	EXISTS (SELECT 1 FROM hapax_pending INDEXED BY hapax_pending_mail WHERE owner = ?2 AND mail = 1)
		OR EXISTS (SELECT 1 FROM hapax_pending INDEXED BY hapax_pending_free WHERE grp = g.id AND owner = 0 AND visible_at <= ?3 AND attempts < ?5)
		OR EXISTS (SELECT 1 FROM hapax_pending p INDEXED BY hapax_pending_free WHERE grp = g.id AND owner = 0 AND visible_at <= ?3
			AND position = (SELECT min(position) FROM hapax_pending WHERE grp = p.grp AND lane = p.lane))
FROM hapax_groups g WHERE g.id = ?1`

// look reads a group's state.
func (r *reads) look(ctx context.Context, m *membership, now time.Time) (v view, err error) {
	var free, mail int
	err = r.view.QueryRowContext(ctx, m.group, m.owner, millis(now), mailLimit, m.consumer.suspicion()).
		Scan(&v.cursor, &free, &mail, &v.others, &v.dead, &v.ready)
	v.free, v.full = free > 0, free+mail >= mailLimit
	return v, err
}

// messages reads new messages after a position.
func (r *reads) messages(ctx context.Context, after, high int64, limit int) ([]record, error) {
	rows, err := r.next.QueryContext(ctx, after, high, limit)
	if err != nil {
		return nil, err
	}
	return scanRecords(rows)
}

// records reads the messages at given positions.
func (r *reads) records(ctx context.Context, positions []int64) (map[int64]record, error) {
	list, _ := json.Marshal(positions)
	rows, err := r.at.QueryContext(ctx, string(list))
	if err != nil {
		return nil, err
	}
	records, err := scanRecords(rows)
	byPosition := make(map[int64]record, len(records))
	for _, record := range records {
		byPosition[record.position] = record
	}
	return byPosition, err
}
