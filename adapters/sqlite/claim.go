package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// record is a message read from the table.
type record struct {
	position int64
	stored
}

// fetch is one attempt of a member to claim messages. What it needs is read
// before, without a lock; the transaction checks that it still holds.
type fetch struct {
	member *membership
	room   int

	// Read ahead.
	view  view
	queue []*delivery // new messages, in order, from the cursor on

	// Results, set anew by every run.
	lost    bool
	claims  []*delivery // new messages
	adopted []*delivery // free rows, oldest first; their messages are read after the commit
	more    bool        // there may be more to claim at once
	reaped  int64
}

// runFetches claims messages in the writer's transaction.
//
// New messages are claimed by moving the group's cursor. That loses nothing only
// because SQLite has one writer: positions are given and committed by one
// transaction after the other, so a position below the cursor can never appear
// later. On PostgreSQL, where two transactions may commit in the other order than
// they drew their numbers, it would lose rows.
//
// Killed before COMMIT: the cursor did not move. Killed after: the pending rows
// say what was claimed, and are taken over when the lease has run out.
func runFetches(ctx context.Context, tx *sql.Tx, fetches []*fetch) error {
	for _, f := range fetches {
		if err := f.run(ctx, tx); err != nil {
			return fmt.Errorf("claim messages: %w", err)
		}
	}
	return nil
}

func (f *fetch) run(ctx context.Context, tx *sql.Tx) error {
	f.lost, f.more, f.reaped = false, false, 0
	f.claims, f.adopted = nil, nil
	now := time.Now()
	m := f.member
	renewed, err := affected(tx.ExecContext(ctx, `UPDATE hapax_consumers SET lease_until = ? WHERE id = ?`, m.until(now), m.owner))
	if err != nil {
		return err
	}
	if renewed == 0 { // others took this member for dead: what it holds is theirs
		f.lost = true
		return nil
	}
	if f.view.dead {
		if err := f.reap(ctx, tx, now); err != nil {
			return err
		}
	}
	blocked := map[int64]bool{}
	if f.view.free || f.reaped > 0 {
		if err := f.adopt(ctx, tx, now, blocked); err != nil {
			return err
		}
	}
	return f.advance(ctx, tx, blocked)
}

// reap frees what the group's dead members held. From then on the dead cannot
// commit any of it: every commit deletes its pending row by owner, and finds none
// (I5).
func (f *fetch) reap(ctx context.Context, tx *sql.Tx, now time.Time) error {
	dead, err := integers(ctx, tx, `SELECT id FROM hapax_consumers WHERE grp = ? AND lease_until < ?`, f.member.group, millis(now))
	if err != nil {
		return err
	}
	for _, id := range dead {
		freed, err := affected(tx.ExecContext(ctx, `UPDATE hapax_pending SET owner = 0 WHERE grp = ? AND owner = ?`, f.member.group, id))
		if err != nil {
			return err
		}
		f.reaped += freed
		if _, err := tx.ExecContext(ctx, `DELETE FROM hapax_consumers WHERE id = ?`, id); err != nil {
			return err
		}
	}
	return nil
}

// adopt claims free rows, oldest first: those of dead and departed members, and
// those that were blocked when the cursor passed them. A row whose lane has an
// earlier row with somebody else, or an earlier row that stays free here, stays
// free, and blocks the lane.
func (f *fetch) adopt(ctx context.Context, tx *sql.Tx, now time.Time, blocked map[int64]bool) error {
	m := f.member
	rows, err := tx.QueryContext(ctx, freeRows, m.group, m.owner, freeLimit)
	if err != nil {
		return err
	}
	defer rows.Close()
	var adopted []*delivery
	for rows.Next() {
		var lane, position, visible int64
		var attempts int
		var held, behind bool
		if err := rows.Scan(&lane, &position, &attempts, &visible, &held, &behind); err != nil {
			return err
		}
		// A row handed out often may be what kills its consumers. It is claimed
		// only at the head of its lane, so that from here on its count is one of
		// true attempts: rows far behind it would otherwise be counted with every
		// death, and be buried for nothing.
		suspect := m.consumer.suspect(attempts) && behind
		if held || blocked[lane] || visible > millis(now) || suspect || len(adopted) >= f.room {
			blocked[lane] = true
			f.more = f.more || len(adopted) >= f.room
			continue
		}
		if m.consumer.exhausted(attempts) {
			blocked[lane] = true // until it is buried
		}
		adopted = append(adopted, &delivery{member: m, row: claimed{m.group, lane, position, m.owner}, attempts: attempts + 1})
	}
	if err := rows.Err(); err != nil {
		return err
	}
	rows.Close()
	for _, d := range adopted {
		_, err := tx.ExecContext(ctx, `UPDATE hapax_pending SET owner = ?, attempts = ?, visible_at = 0 WHERE grp = ? AND lane = ? AND position = ?`,
			m.owner, d.attempts, m.group, d.row.lane, d.row.position)
		if err != nil {
			return err
		}
	}
	f.adopted = adopted
	return nil
}

// freeLimit bounds the free rows that are looked at, and with blockedLimit those
// that exist. Dead members' rows may add a window each.
const (
	freeLimit    = 4096
	blockedLimit = 512
)

const freeRows = `
SELECT p.lane, p.position, p.attempts, p.visible_at,
	EXISTS (SELECT 1 FROM hapax_pending q WHERE q.grp = p.grp AND q.lane = p.lane AND q.position < p.position AND q.owner NOT IN (0, ?2)),
	EXISTS (SELECT 1 FROM hapax_pending q WHERE q.grp = p.grp AND q.lane = p.lane AND q.position < p.position)
FROM hapax_pending p INDEXED BY hapax_pending_free
WHERE p.grp = ?1 AND p.owner = 0 ORDER BY p.position LIMIT ?3`

// advance claims new messages by moving the cursor past them.
func (f *fetch) advance(ctx context.Context, tx *sql.Tx, blocked map[int64]bool) error {
	m := f.member
	room := f.room - len(f.adopted)
	if room <= 0 || len(f.queue) == 0 {
		f.more = f.more || len(f.queue) > 0
		return nil
	}
	queue := f.queue[:min(len(f.queue), room)]
	check := f.view.free || f.view.others || f.reaped > 0
	moved, err := affected(tx.ExecContext(ctx, `UPDATE hapax_groups SET cursor = ? WHERE id = ? AND cursor = ?`,
		queue[len(queue)-1].row.position, m.group, f.view.cursor))
	if err != nil {
		return err
	}
	if moved == 0 { // another member was first: read on from where it stopped
		check = true
		if queue, err = f.readHere(ctx, tx, room); err != nil || len(queue) == 0 {
			return err
		}
	}
	if check {
		if err := f.block(ctx, tx, queue, blocked); err != nil {
			return err
		}
	}
	// What is blocked becomes a free row and is adopted later. blockedLimit puts an
	// end to that, or one slow key would turn the whole topic into free rows.
	for _, d := range queue {
		if d.row.owner = 0; !blocked[d.row.lane] {
			d.row.owner = m.owner
			f.claims = append(f.claims, d)
		}
	}
	f.more = true
	return insertMany(ctx, tx, `INSERT INTO hapax_pending (grp, lane, position, owner, attempts, visible_at) VALUES `, len(queue), 6, func(args []any, i int) {
		d := queue[i]
		args[0], args[1], args[2], args[3], args[4], args[5] = m.group, d.row.lane, d.row.position, d.row.owner, 0, 0
		if d.row.owner != 0 {
			args[4] = 1
		}
	})
}

// readHere reads new messages inside the transaction, which nobody can overtake.
func (f *fetch) readHere(ctx context.Context, tx *sql.Tx, room int) ([]*delivery, error) {
	m := f.member
	var cursor int64
	if err := tx.QueryRowContext(ctx, `SELECT cursor FROM hapax_groups WHERE id = ?`, m.group).Scan(&cursor); err != nil {
		return nil, err
	}
	rows, err := tx.QueryContext(ctx, selectMessages, cursor, m.consumer.high, room)
	if err != nil {
		return nil, err
	}
	records, err := scanRecords(rows)
	if err != nil || len(records) == 0 {
		return nil, err
	}
	_, err = tx.ExecContext(ctx, `UPDATE hapax_groups SET cursor = ? WHERE id = ?`, records[len(records)-1].position, m.group)
	return m.deliveries(records), err
}

// block finds the lanes of new messages that have a row with somebody else, or a
// free one that must go first.
func (f *fetch) block(ctx context.Context, tx *sql.Tx, queue []*delivery, blocked map[int64]bool) error {
	lanes := make([]int64, len(queue))
	for i, d := range queue {
		lanes[i] = d.row.lane
	}
	list, _ := json.Marshal(lanes)
	held, err := integers(ctx, tx, `SELECT DISTINCT p.lane FROM (SELECT DISTINCT value AS lane FROM json_each(?3)) l
		CROSS JOIN hapax_pending p ON p.grp = ?1 AND p.lane = l.lane WHERE p.owner <> ?2`, f.member.group, f.member.owner, string(list))
	for _, lane := range held {
		blocked[lane] = true
	}
	return err
}

const selectMessages = `SELECT position, uuid, metadata, payload FROM hapax_messages WHERE position > ? AND position <= ? ORDER BY position LIMIT ?`

func scanRecords(rows *sql.Rows) ([]record, error) {
	defer rows.Close()
	var records []record
	for rows.Next() {
		var r record
		if err := rows.Scan(&r.position, &r.uuid, &r.metadata, &r.payload); err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, rows.Err()
}

// deliveries makes deliveries of new records.
func (m *membership) deliveries(records []record) []*delivery {
	list := make([]*delivery, len(records))
	for i, r := range records {
		d := &delivery{member: m, row: claimed{m.group, 0, r.position, m.owner}, attempts: 1}
		d.fill(r)
		list[i] = d
	}
	return list
}

// fill gives a delivery its message.
func (d *delivery) fill(r record) {
	d.uuid, d.metadata, d.payload = r.uuid, r.metadata, r.payload
	d.Position = place(d.member.consumer.topic, r.position)
	msg := &message.Message{UUID: r.uuid, Metadata: decodeMetadata(r.metadata)}
	d.decoded = msg.Metadata
	var number int64
	d.lane, number = lane(d.member.consumer.subscription.Ordering, msg)
	if d.lane == "" {
		number = r.position // ordered with nothing
	}
	if d.row.lane == 0 {
		d.row.lane = number
	}
}

func affected(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func integers(ctx context.Context, tx *sql.Tx, query string, args ...any) ([]int64, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []int64
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, rows.Err()
}
