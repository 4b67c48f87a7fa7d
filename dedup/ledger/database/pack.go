package database

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/internal/sieve"
)

// packChunk is how many rows one transaction packs.
const packChunk = 128

// pack packs the next buckets of the other table, in which nothing changes.
func (t *transaction) pack(ctx context.Context, at progress) error {
	until := min(at.packed+packChunk, at.buckets)
	packed := make([][]byte, until-at.packed)
	query := fmt.Sprintf(`SELECT %s, %s, token, expires_at, marked FROM %s WHERE marked = %s AND id >= %s AND id <= %s ORDER BY id`,
		t.sql.idColumn("id"), t.sql.idColumn("digest"), t.other(), t.sql.truth(),
		t.sql.idLiteral(firstOf(at.packed, at.buckets)), t.sql.idLiteral(lastOf(until-1, at.buckets)))
	err := t.eachRow(ctx, statement{text: query}, func(id dedup.ID, mark row) {
		bucket := bucketOf(id, at.buckets) - at.packed
		packed[bucket] = pack(packed[bucket], id, mark)
	})
	if err != nil {
		return err
	}
	var values []string
	for i, marks := range packed {
		if len(marks) > 0 {
			values = append(values, fmt.Sprintf(`(%d,%s)`, placeOf(at.run, at.packed+i), t.sql.blobLiteral(marks)))
		}
	}
	if len(values) > 0 {
		if err := t.exec(ctx, `INSERT INTO `+t.tables.packed+` (place, marks) VALUES `+strings.Join(values, ",")); err != nil {
			return err
		}
	}
	return t.exec(ctx, fmt.Sprintf(`UPDATE %s SET packed = %d`, t.tables.keeper, until))
}

// describe enters the run that was packed into the list. It counts from the next
// epoch on.
func (t *transaction) describe(ctx context.Context, at progress) error {
	var marks, expires int64
	err := t.tx.QueryRowContext(ctx, `SELECT COUNT(*), COALESCE(MAX(expires_at), 0) FROM `+t.other()+` WHERE marked = `+t.sql.truth()).Scan(&marks, &expires)
	if err != nil {
		return err
	}
	bits := sieve.NewFilter(marks)
	err = t.each(ctx, statement{text: `SELECT ` + t.sql.idColumn("id") + ` FROM ` + t.other() + ` WHERE marked = ` + t.sql.truth()}, func(result *sql.Rows) error {
		var id sql.RawBytes
		if err := result.Scan(&id); err != nil {
			return err
		}
		bits.Add(dedup.ID(id))
		return nil
	})
	if err != nil {
		return err
	}
	if err := t.exec(ctx, fmt.Sprintf(`DELETE FROM %s WHERE number = %d`, t.tables.runs, at.run)); err != nil {
		return err
	}
	return t.exec(ctx, fmt.Sprintf(`INSERT INTO %s (number, buckets, marks, expires_at, filter) VALUES (%d, %d, %d, %d, %s)`,
		t.tables.runs, at.run, at.buckets, marks, expires, t.sql.blobLiteral(bits)))
}

// expire drops one run whose window is over: some thousand rows.
func (t *transaction) expire(ctx context.Context) (more bool, err error) {
	var number int64
	err = t.tx.QueryRowContext(ctx, fmt.Sprintf(`SELECT COALESCE(MIN(number), 0) FROM %s WHERE expires_at <= %d`, t.tables.runs, t.now)).Scan(&number)
	if err != nil || number == 0 {
		return false, err
	}
	err = t.exec(ctx, fmt.Sprintf(`DELETE FROM %s WHERE place >= %d AND place < %d`, t.tables.packed, placeOf(number, 0), placeOf(number+1, 0)))
	if err != nil {
		return false, err
	}
	return true, t.exec(ctx, fmt.Sprintf(`DELETE FROM %s WHERE number = %d`, t.tables.runs, number))
}
