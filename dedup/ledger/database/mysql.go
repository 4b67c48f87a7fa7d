package database

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/hapax-go/hapax/dedup"
)

// mysql has no arrays, so IDs are written into the statements, in hexadecimal.
// Rows that will be written are locked when they are read: InnoDB keeps such
// locks in memory.
type mysql struct{}

func (mysql) begin(ctx context.Context, db beginner, _ tables, _ bool) (*sql.Tx, error) {
	// Under REPEATABLE READ a second look would see what the first one saw.
	return db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
}

// readState takes the lock: a locking read sees what is committed when it has it.
func (mysql) readState(t tables, exclusive bool) string {
	lock := ` LOCK IN SHARE MODE`
	if exclusive {
		lock = ` FOR UPDATE`
	}
	return `SELECT epoch, slot, stage, turned_at, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000 FROM ` + t.state + lock
}

func (mysql) lockKeeper(t tables) string {
	return `SELECT run, buckets, packed FROM ` + t.keeper + ` FOR UPDATE`
}

func (m mysql) readHot(table string, ids []dedup.ID, lock bool) statement {
	text := `SELECT id, digest, token, expires_at, marked FROM ` + table + ` WHERE id IN (` +
		list(len(ids), func(i int) string { return m.idLiteral(ids[i]) }) + `)`
	if lock {
		text += ` FOR UPDATE`
	}
	return statement{text: text}
}

func (mysql) readPacked(t tables, places []int64) statement {
	return statement{text: `SELECT place, marks FROM ` + t.packed + ` WHERE place IN (` +
		list(len(places), func(i int) string { return fmt.Sprint(places[i]) }) + `)`}
}

func (m mysql) insertLeases(table string, leases []change) statement {
	return statement{rows: int64(len(leases)),
		text: `INSERT IGNORE INTO ` + table + ` (id, digest, token, expires_at, marked) VALUES ` + m.values(leases)}
}

func (m mysql) replaceLeases(table string, leases []change) statement {
	return statement{rows: -1,
		text: `REPLACE INTO ` + table + ` (id, digest, token, expires_at, marked) VALUES ` + m.values(leases)}
}

func (m mysql) renew(table string, held []change) statement {
	return statement{rows: -1, text: fmt.Sprintf(`UPDATE %s SET expires_at = %d WHERE id IN (%s)`, table, held[0].expires, m.ids(held))}
}

func (m mysql) mark(table string, held []change) statement {
	return statement{rows: int64(len(held)),
		text: fmt.Sprintf(`UPDATE %s SET expires_at = %d, marked = 1 WHERE id IN (%s)`, table, held[0].expires, m.ids(held))}
}

func (m mysql) release(table string, held []change) statement {
	return statement{rows: int64(len(held)), text: `DELETE FROM ` + table + ` WHERE id IN (` + m.ids(held) + `)`}
}

func (mysql) idLiteral(id dedup.ID) string   { return `x'` + id.String() + `'` }
func (mysql) blobLiteral(blob []byte) string { return `x'` + hex.EncodeToString(blob) + `'` }
func (mysql) idColumn(name string) string    { return name }
func (mysql) truth() string                  { return `1` }
func (mysql) empty(table string) string      { return `TRUNCATE TABLE ` + table }

// fence: TRUNCATE commits before it starts, and with that gives up the
// transaction's locks. A lock of the session lasts through it. And all calls that
// come wait behind one that waits for the exclusive lock, so it gives up soon.
func (mysql) fence(t tables) (lock, unlock []string) {
	name := `CONCAT('hapax_ledger_', LEFT(SHA1(CONCAT(DATABASE(), '/` + t.state + `')), 16))`
	return []string{
			`SET @hapax_lock_wait = @@innodb_lock_wait_timeout`, `SET innodb_lock_wait_timeout = 1`,
			`SELECT COALESCE(GET_LOCK(` + name + `, 0), 0)`,
		}, []string{
			`DO RELEASE_LOCK(` + name + `)`, `SET innodb_lock_wait_timeout = @hapax_lock_wait`,
		}
}

func (m mysql) values(leases []change) string {
	return list(len(leases), func(i int) string {
		return fmt.Sprintf(`(%s,x'%x',%d,%d,0)`, m.idLiteral(leases[i].id), leases[i].digest[:], leases[i].token, leases[i].expires)
	})
}

func (m mysql) ids(held []change) string {
	return list(len(held), func(i int) string { return m.idLiteral(held[i].id) })
}

func list(count int, value func(int) string) string {
	values := make([]string, count)
	for i := range values {
		values[i] = value(i)
	}
	return strings.Join(values, ",")
}
