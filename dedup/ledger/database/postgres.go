package database

import (
	"context"
	"database/sql"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/hapax-go/hapax/dedup"
)

// postgres passes many rows as arrays in their text form, which every driver can.
type postgres struct{}

func (postgres) begin(ctx context.Context, db beginner, t tables, exclusive bool) (*sql.Tx, error) {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return nil, err
	}
	// The lock is a statement of its own: one that both waits for it and reads
	// would read what was committed before it began to wait.
	//
	// A plan that was made while a hot table was empty would read the whole table
	// long after it has filled; so scans and hashes are off, and what is left is
	// the index. That they are off counts as a cost, which would start the JIT.
	lock := `LOCK TABLE ` + t.state + ` IN ROW SHARE MODE;
		SET LOCAL jit = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off`
	if exclusive {
		// All calls that come wait behind the one that waits for those that run, of
		// which one may hang; so it gives up soon.
		lock = `SET LOCAL lock_timeout = '1s'; LOCK TABLE ` + t.state + ` IN EXCLUSIVE MODE; SET LOCAL lock_timeout = 0`
	}
	if _, err := tx.ExecContext(ctx, lock); err != nil {
		_ = tx.Rollback()
		return nil, err
	}
	return tx, nil
}

func (postgres) readState(t tables, _ bool) string {
	return `SELECT epoch, slot, stage, turned_at, (extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM ` + t.state
}

func (postgres) lockKeeper(t tables) string {
	return `SELECT run, buckets, packed FROM ` + t.keeper + ` FOR UPDATE SKIP LOCKED`
}

func (postgres) readHot(table string, ids []dedup.ID, _ bool) statement {
	return statement{
		text: `SELECT uuid_send(id), uuid_send(digest), token, expires_at, marked FROM ` + table + ` WHERE id = ANY ($1::uuid[])`,
		args: []any{idArray(ids)},
	}
}

func (postgres) readPacked(t tables, places []int64) statement {
	return statement{
		text: `SELECT place, marks FROM ` + t.packed + ` WHERE place = ANY ($1::bigint[])`,
		args: []any{array(len(places), func(i int) string { return strconv.FormatInt(places[i], 10) })},
	}
}

func (postgres) insertLeases(table string, leases []change) statement {
	return statement{rows: int64(len(leases)),
		text: `INSERT INTO ` + table + ` (token, expires_at, id, digest, marked)
			SELECT token, expires_at, id, digest, false
			FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[]) AS e(id, digest, token, expires_at)
			ON CONFLICT (id) DO NOTHING`,
		args: []any{changedIDs(leases), digests(leases), newTokens(leases), expiries(leases)}}
}

func (postgres) replaceLeases(table string, leases []change) statement {
	return statement{rows: int64(len(leases)),
		text: `UPDATE ` + table + ` AS h SET digest = e.digest, token = e.token, expires_at = e.expires_at, marked = false
			FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::boolean[])
				AS e(id, digest, token, expires_at, old_token, old_expires_at, old_marked)
			WHERE h.id = e.id AND h.token = e.old_token AND h.expires_at = e.old_expires_at AND h.marked = e.old_marked`,
		args: []any{changedIDs(leases), digests(leases), newTokens(leases), expiries(leases), oldTokens(leases),
			array(len(leases), func(i int) string { return strconv.FormatInt(leases[i].was.expires, 10) }),
			array(len(leases), func(i int) string { return strconv.FormatBool(leases[i].was.marked) })}}
}

func (postgres) renew(table string, held []change) statement {
	return statement{rows: int64(len(held)),
		text: `UPDATE ` + table + ` AS h SET expires_at = e.expires_at
			FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS e(id, token, expires_at)
			WHERE h.id = e.id AND h.token = e.token AND NOT h.marked`,
		args: []any{changedIDs(held), oldTokens(held), expiries(held)}}
}

func (postgres) mark(table string, held []change) statement {
	return statement{rows: int64(len(held)),
		text: `UPDATE ` + table + ` AS h SET expires_at = e.expires_at, marked = true
			FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS e(id, token, expires_at)
			WHERE h.id = e.id AND h.token = e.token AND NOT h.marked`,
		args: []any{changedIDs(held), oldTokens(held), expiries(held)}}
}

func (postgres) release(table string, held []change) statement {
	return statement{rows: -1,
		text: `DELETE FROM ` + table + ` AS h USING unnest($1::uuid[], $2::bigint[]) AS e(id, token)
			WHERE h.id = e.id AND h.token = e.token AND NOT h.marked`,
		args: []any{changedIDs(held), oldTokens(held)}}
}

func (postgres) idLiteral(id dedup.ID) string { return `'` + id.String() + `'::uuid` }
func (postgres) blobLiteral(blob []byte) string {
	return `decode('` + hex.EncodeToString(blob) + `', 'hex')`
}
func (postgres) idColumn(name string) string          { return `uuid_send(` + name + `)` }
func (postgres) truth() string                        { return `true` }
func (postgres) fence(tables) (lock, unlock []string) { return nil, nil }

// empty does not wait for ever for those who read the table: upkeep says that it cannot.
func (postgres) empty(table string) string {
	return `SET LOCAL lock_timeout = '3s'; TRUNCATE ` + table
}

func array(count int, value func(int) string) string {
	values := make([]string, count)
	for i := range values {
		values[i] = value(i)
	}
	return `{` + strings.Join(values, ",") + `}`
}

func idArray(ids []dedup.ID) string {
	return array(len(ids), func(i int) string { return ids[i].String() })
}

func changedIDs(list []change) string {
	return array(len(list), func(i int) string { return list[i].id.String() })
}

func digests(list []change) string {
	return array(len(list), func(i int) string { return hex.EncodeToString(list[i].digest[:]) })
}

func newTokens(list []change) string {
	return array(len(list), func(i int) string { return strconv.FormatInt(int64(list[i].token), 10) })
}

func oldTokens(list []change) string {
	return array(len(list), func(i int) string { return strconv.FormatInt(int64(list[i].was.token), 10) })
}

func expiries(list []change) string {
	return array(len(list), func(i int) string { return strconv.FormatInt(list[i].expires, 10) })
}
