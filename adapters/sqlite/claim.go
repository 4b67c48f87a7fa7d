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
	adopted []*delivery // mail and free rows, oldest first; their messages are read after the commit
	more    bool        // there may be more to claim at once
	mailed  bool        // other members have mail
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
	f.lost, f.more, f.mailed, f.reaped = false, false, false, 0
	f.claims, f.adopted = nil, nil
	now := time.Now()
	m := f.member
	renewed, err := m.renew(ctx, tx)
	if err != nil {
		return err
	}
	if renewed == 0 { // others took this member for dead: what it holds is theirs
		f.lost = true
		return nil
	}
	if f.view.dead {
		if f.reaped, err = reap(ctx, tx, now); err != nil {
			return err
		}
	}
	// Oldest first, and each step only when the one before left room: a lane's
	// later messages must not overtake its earlier ones.
	if err := f.collect(ctx, tx); err != nil {
		return err
	}
	if (f.view.free || f.reaped > 0) && len(f.adopted) < f.room {
		if err := f.adopt(ctx, tx, now); err != nil {
			return err
		}
	}
	if len(f.adopted) < f.room && len(f.queue) > 0 {
		return f.advance(ctx, tx)
	}
	return nil
}

// reap frees what dead consumers of any group held, and returns how many messages
// that is. From then on the dead cannot commit any of them: every commit deletes
// its pending row by owner, and finds none (I5).
func reap(ctx context.Context, tx *sql.Tx, now time.Time) (freed int64, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT id, grp FROM hapax_consumers WHERE lease_until < ?`, millis(now))
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var dead []claimed
	for rows.Next() {
		var c claimed
		if err := rows.Scan(&c.owner, &c.group); err != nil {
			return 0, err
		}
		dead = append(dead, c)
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	rows.Close()
	for _, c := range dead {
		n, err := affected(tx.ExecContext(ctx, `UPDATE hapax_pending SET owner = 0, mail = 0 WHERE grp = ? AND owner = ?`, c.group, c.owner))
		if err != nil {
			return 0, err
		}
		freed += n
		if _, err := tx.ExecContext(ctx, `DELETE FROM hapax_consumers WHERE id = ?`, c.owner); err != nil {
			return 0, err
		}
	}
	return freed, nil
}

// collect takes the member's mail: messages of lanes it has, which another member
// met when it moved the cursor.
func (f *fetch) collect(ctx context.Context, tx *sql.Tx) error {
	m := f.member
	rows, err := tx.QueryContext(ctx, `SELECT lane, position, attempts FROM hapax_pending INDEXED BY hapax_pending_mail
		WHERE owner = ? AND mail = 1 ORDER BY position LIMIT ?`, m.owner, f.room)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		d := &delivery{member: m, row: claimed{group: m.group, owner: m.owner}}
		if err := rows.Scan(&d.row.lane, &d.row.position, &d.attempts); err != nil {
			return err
		}
		d.attempts++
		f.adopted = append(f.adopted, d)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	rows.Close()
	for _, d := range f.adopted {
		if err := d.row.assign(ctx, tx, m.owner, d.attempts, false); err != nil {
			return err
		}
	}
	f.more = len(f.adopted) == f.room
	return nil
}

// assign gives a row to an owner.
func (r claimed) assign(ctx context.Context, tx *sql.Tx, owner int64, attempts int, mail bool) error {
	_, err := tx.ExecContext(ctx, `UPDATE hapax_pending SET owner = ?, attempts = ?, mail = ?, visible_at = 0 WHERE grp = ? AND lane = ? AND position = ?`,
		owner, attempts, mail, r.group, r.lane, r.position)
	return err
}

// free is a free row, with the head of its lane.
type free struct {
	lane, position  int64
	attempts        int
	head, headOwner int64
}

// adopt looks at free rows, oldest first: those of dead and departed members. A
// lane that nobody has becomes this member's; rows of a lane that another member
// has become its mail. So each row that can go is looked at once, however many there
// are.
func (f *fetch) adopt(ctx context.Context, tx *sql.Tx, now time.Time) error {
	rows, err := f.freeRows(ctx, tx, now)
	if err != nil {
		return err
	}
	m := f.member
	for _, row := range rows {
		r := claimed{m.group, row.lane, row.position, m.owner}
		switch {
		case row.headOwner != 0 && row.headOwner != m.owner:
			if err := r.assign(ctx, tx, row.headOwner, row.attempts, true); err != nil {
				return err
			}
			f.mailed = true
		case len(f.adopted) == f.room:
			f.more = true
			return nil
		default:
			if err := r.assign(ctx, tx, m.owner, row.attempts+1, false); err != nil {
				return err
			}
			f.adopted = append(f.adopted, &delivery{member: m, row: r, attempts: row.attempts + 1})
		}
	}
	f.more = f.more || len(rows) == batch
	return nil
}

// freeRows returns the oldest free rows that can go, up to a batch. Those that have to
// wait are passed over without being counted: they may be many, of one key, for long.
func (f *fetch) freeRows(ctx context.Context, tx *sql.Tx, now time.Time) ([]free, error) {
	rows, err := tx.QueryContext(ctx, `
		SELECT p.lane, p.position, p.attempts, h.position, h.owner
		FROM hapax_pending p INDEXED BY hapax_pending_free
		CROSS JOIN hapax_pending h ON h.grp = ?1 AND h.lane = p.lane
			AND h.position = (SELECT min(position) FROM hapax_pending WHERE grp = ?1 AND lane = p.lane)
		WHERE p.grp = ?1 AND p.owner = 0 AND p.visible_at <= ?2 AND h.visible_at <= ?2
		ORDER BY p.position`, f.member.group, millis(now))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []free
	consumer, stuck := f.member.consumer, map[int64]bool{}
	for len(list) < batch && rows.Next() {
		var r free
		if err := rows.Scan(&r.lane, &r.position, &r.attempts, &r.head, &r.headOwner); err != nil {
			return nil, err
		}
		switch {
		case stuck[r.lane]:
		case consumer.suspect(r.attempts) && r.position != r.head:
			// A row handed out often may be what kills its consumers. It is
			// claimed only at the head of its lane, so that from here on its count
			// is one of true attempts: rows far behind it would otherwise be
			// counted with every death, and be buried for nothing.
			stuck[r.lane] = true
		default:
			stuck[r.lane] = consumer.exhausted(r.attempts) // until it is buried
			list = append(list, r)
		}
	}
	return list, rows.Err()
}

// mailLimit bounds the rows that wait for somebody to look at them. Above it
// nobody moves the cursor, or one slow key would turn the topic into mail.
const mailLimit = 1024

// advance claims new messages by moving the cursor past them.
func (f *fetch) advance(ctx context.Context, tx *sql.Tx) error {
	m := f.member
	room := f.room - len(f.adopted)
	queue := f.queue[:min(len(f.queue), room)]
	// Whoever alone is a member has every lane.
	alone := !f.view.free && !f.view.others
	moved, err := affected(tx.ExecContext(ctx, `UPDATE hapax_groups SET cursor = ? WHERE id = ? AND cursor = ?`,
		queue[len(queue)-1].row.position, m.group, f.view.cursor))
	if err != nil {
		return err
	}
	if moved == 0 { // another member was first: read on from where it stopped
		alone = false
		if queue, err = f.readHere(ctx, tx, room); err != nil || len(queue) == 0 {
			return err
		}
	}
	f.more = true
	var owners map[int64]int64
	if !alone {
		if owners, err = f.owners(ctx, tx, queue); err != nil {
			return err
		}
	}
	var others []claimed
	for _, d := range queue {
		if owner, held := owners[d.row.lane]; held && owner != m.owner {
			row := d.row
			row.owner = owner
			others = append(others, row)
			continue
		}
		f.claims = append(f.claims, d)
	}
	f.mailed = f.mailed || len(others) > 0
	err = insertMany(ctx, tx, `INSERT INTO hapax_pending (grp, lane, position, owner) VALUES `, len(f.claims), 4, func(args []any, i int) {
		row := f.claims[i].row
		args[0], args[1], args[2], args[3] = row.group, row.lane, row.position, row.owner
	})
	if err != nil {
		return err
	}
	return insertMany(ctx, tx, `INSERT INTO hapax_pending (grp, lane, position, owner, attempts, mail) VALUES `, len(others), 6, func(args []any, i int) {
		row := others[i]
		args[0], args[1], args[2], args[3], args[4], args[5] = row.group, row.lane, row.position, row.owner, 0, row.owner != 0
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

// owners finds who has the lanes of new messages; 0 where the lane has free rows,
// which go first.
func (f *fetch) owners(ctx context.Context, tx *sql.Tx, queue []*delivery) (map[int64]int64, error) {
	lanes := make([]int64, len(queue))
	for i, d := range queue {
		lanes[i] = d.row.lane
	}
	list, _ := json.Marshal(lanes)
	rows, err := tx.QueryContext(ctx, `SELECT l.lane, min(p.owner) FROM (SELECT DISTINCT value AS lane FROM json_each(?2)) l
		CROSS JOIN hapax_pending p ON p.grp = ?1 AND p.lane = l.lane GROUP BY l.lane`, f.member.group, string(list))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	owners := map[int64]int64{}
	for rows.Next() {
		var lane, owner int64
		if err := rows.Scan(&lane, &owner); err != nil {
			return nil, err
		}
		owners[lane] = owner
	}
	return owners, rows.Err()
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
