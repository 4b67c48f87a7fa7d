package inbox

import (
	"context"
	"database/sql"
	"encoding/json"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// postgresMarks speaks PostgreSQL: one statement for any number of marks.
type postgresMarks struct {
	beginning                                     []string
	lookupSQL, insertSQL, removeSQL, setResultSQL string
}

func newPostgresMarks(table sqldb.Table) *postgresMarks {
	inbox := sqldb.Postgres.Quote(table)
	generations := sqldb.Postgres.Quote(table.With("_generations"))
	current := `(SELECT max(generation) FROM ` + generations + `)`
	return &postgresMarks{
		// LOCK TABLE takes no snapshot, so under repeatable read too the first
		// statement after it sees the generation that the lock holds open. Without
		// parameters both go to the server in one message.
		beginning: []string{`BEGIN; LOCK TABLE ` + generations + ` IN ROW SHARE MODE`},
		// A generation has the statistics of an empty table when it begins, and for a
		// minute of full speed after that: the planner would read all of it for every
		// batch of IDs. One ID at a time it takes the index. An ID has one mark at most;
		// that it is told so keeps it from expecting thousands, for which it would
		// compile the query first.
		lookupSQL: `SELECT uuid_send(o.id), uuid_send(o.digest)
FROM unnest($1::uuid[]) AS i (id), LATERAL (SELECT id, digest FROM ` + inbox + ` o WHERE o.id = i.id LIMIT 1) o`,
		// OFFSET 0 keeps the planner from turning the look at older generations
		// into a join that reads them whole.
		//
		// The IDs that were written come back as one value, not as a row each.
		insertSQL: `WITH current AS MATERIALIZED (SELECT max(generation) AS generation FROM ` + generations + `),
written AS (INSERT INTO ` + inbox + ` (generation, id, digest, service, handler, event_id, event_type)
SELECT current.generation, i.id, i.digest, i.service, i.handler, i.event_id, i.event_type
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[]) AS i (id, digest, service, handler, event_id, event_type), current
WHERE NOT EXISTS (SELECT 1 FROM ` + inbox + ` o WHERE o.id = i.id AND o.generation < current.generation OFFSET 0)
ORDER BY i.id
ON CONFLICT (id, generation) DO NOTHING
RETURNING id)
SELECT string_agg(uuid_send(id), '') FROM written`,
		removeSQL:    `DELETE FROM ` + inbox + ` WHERE id = ANY($1::uuid[]) AND generation = ` + current,
		setResultSQL: `UPDATE ` + inbox + ` SET result = $2::text::jsonb WHERE id = ANY($1::uuid[]) AND generation = ` + current,
	}
}

func (p *postgresMarks) begin() []string { return p.beginning }

func (p *postgresMarks) lookup(ctx context.Context, q querier, entries []*dedup.Entry) error {
	ids := make([][16]byte, len(entries))
	for i, entry := range entries {
		ids[i] = entry.ID
	}
	found, err := scanDigests(q.QueryContext(ctx, p.lookupSQL, ids))
	if err != nil {
		return err
	}
	judge(entries, found)
	return nil
}

func (p *postgresMarks) insert(ctx context.Context, tx querier, rows []row) error {
	ids, digests := make([][16]byte, len(rows)), make([][16]byte, len(rows))
	texts := make([][]string, 4)
	for i := range texts {
		texts[i] = make([]string, len(rows))
	}
	for i, r := range rows {
		ids[i], digests[i] = r.ID, r.Digest
		texts[0][i], texts[1][i] = readable(r.Scope.Service, nameLimit), readable(r.Scope.Handler, nameLimit)
		texts[2][i], texts[3][i] = readable(r.EventID, textLimit), readable(r.kind, textLimit)
	}
	written, err := scanIDs(tx.QueryContext(ctx, p.insertSQL, ids, digests, texts[0], texts[1], texts[2], texts[3]))
	if err != nil {
		return err
	}
	for _, r := range rows {
		r.Verdict = dedup.Fresh
	}
	if len(written) == len(rows) {
		return nil
	}
	fresh := make(map[dedup.ID]bool, len(written))
	for _, id := range written {
		fresh[id] = true
	}
	var refused []*dedup.Entry
	for _, r := range rows {
		if !fresh[r.ID] {
			refused = append(refused, r.Entry)
		}
	}
	if err := p.lookup(ctx, tx, refused); err != nil {
		return err
	}
	stillFresh(refused)
	return nil
}

// scanIDs reads IDs that stand one behind the other in one value, or in none.
func scanIDs(rows *sql.Rows, err error) (ids []dedup.ID, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var joined sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&joined); err != nil {
			return nil, err
		}
		for len(joined) >= len(dedup.ID{}) {
			ids = append(ids, dedup.ID(joined[:len(dedup.ID{})]))
			joined = joined[len(dedup.ID{}):]
		}
	}
	return ids, rows.Err()
}

// stillFresh: a mark that was refused must be there. Where it is not, whoever
// wrote it has removed it meanwhile, or the snapshot is older than it.
func stillFresh(refused []*dedup.Entry) {
	for _, entry := range refused {
		if entry.Verdict == dedup.Fresh {
			entry.Verdict = dedup.InFlight
		}
	}
}

func (p *postgresMarks) remove(ctx context.Context, tx querier, rows []row) error {
	_, err := tx.ExecContext(ctx, p.removeSQL, rowIDs(rows))
	return err
}

func (p *postgresMarks) result(ctx context.Context, tx querier, rows []row, result json.RawMessage) error {
	_, err := tx.ExecContext(ctx, p.setResultSQL, rowIDs(rows), string(result))
	return err
}

func rowIDs(rows []row) [][16]byte {
	ids := make([][16]byte, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	return ids
}
