package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

type postgresPartitions struct{ inbox, generations sqldb.Table }

func (p postgresPartitions) partition(number int64) sqldb.Table {
	return p.inbox.With(fmt.Sprintf("_g%d", number))
}

func (p postgresPartitions) lockID() int64 {
	return int64(crc32.ChecksumIEEE([]byte("hapax inbox " + p.inbox.Schema + "." + p.inbox.Name)))
}

func (p postgresPartitions) lockMaintenance(ctx context.Context, conn *sql.Conn) (got bool, err error) {
	err = conn.QueryRowContext(ctx, `SELECT pg_try_advisory_lock($1)`, p.lockID()).Scan(&got)
	return got, err
}

func (p postgresPartitions) unlockMaintenance(ctx context.Context, conn *sql.Conn) {
	_, _ = conn.ExecContext(ctx, `SELECT pg_advisory_unlock($1)`, p.lockID())
}

// exists reports whether the partition is a table at all, and whether it belongs
// to the inbox; detaching: a DETACH was cut short.
func (p postgresPartitions) exists(ctx context.Context, conn *sql.Conn, number int64) (table, attached, detaching bool, err error) {
	err = conn.QueryRowContext(ctx, `SELECT c.oid IS NOT NULL, i.inhrelid IS NOT NULL, COALESCE(i.inhdetachpending, false)
		FROM (SELECT to_regclass($1) AS oid) c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid`,
		sqldb.Postgres.Quote(p.partition(number))).Scan(&table, &attached, &detaching)
	return table, attached, detaching, err
}

// prepare makes the table first and attaches it then: CREATE … PARTITION OF would
// lock out everybody who reads.
func (p postgresPartitions) prepare(ctx context.Context, conn *sql.Conn, number int64) error {
	table, attached, _, err := p.exists(ctx, conn, number)
	if err != nil || attached {
		return err
	}
	inbox, partition := sqldb.Postgres.Quote(p.inbox), sqldb.Postgres.Quote(p.partition(number))
	if !table {
		if _, err := conn.ExecContext(ctx, `CREATE TABLE `+partition+` (LIKE `+inbox+` INCLUDING ALL)`); err != nil {
			return err
		}
	}
	_, err = conn.ExecContext(ctx, fmt.Sprintf(`ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%d) TO (%d)`, inbox, partition, number, number+1))
	return err
}

func (p postgresPartitions) turn(ctx context.Context, conn *sql.Conn, from int64, patience time.Duration) error {
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a COMMIT it does nothing
	generations := sqldb.Postgres.Quote(p.generations)
	for _, statement := range []string{
		fmt.Sprintf(`SET LOCAL lock_timeout = %d`, patience.Milliseconds()),
		`LOCK TABLE ` + generations + ` IN EXCLUSIVE MODE`,
		fmt.Sprintf(`INSERT INTO %s (generation, keep_seconds) SELECT generation + 1, keep_seconds FROM %s WHERE generation = %d AND closed_at IS NULL`, generations, generations, from),
		fmt.Sprintf(`UPDATE %s SET closed_at = clock_timestamp() WHERE generation = %d AND closed_at IS NULL`, generations, from),
	} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// drop detaches first. CONCURRENTLY waits for those who read the partition without
// locking anybody out; what is detached belongs to nobody and drops at once.
func (p postgresPartitions) drop(ctx context.Context, conn *sql.Conn, number int64) error {
	table, attached, detaching, err := p.exists(ctx, conn, number)
	if err != nil {
		return err
	}
	inbox, partition := sqldb.Postgres.Quote(p.inbox), sqldb.Postgres.Quote(p.partition(number))
	var statements []string
	switch {
	case detaching:
		statements = append(statements, `ALTER TABLE `+inbox+` DETACH PARTITION `+partition+` FINALIZE`)
	case attached:
		statements = append(statements, `ALTER TABLE `+inbox+` DETACH PARTITION `+partition+` CONCURRENTLY`)
	}
	if table {
		statements = append(statements, `DROP TABLE `+partition)
	}
	statements = append(statements, fmt.Sprintf(`DELETE FROM %s WHERE generation = %d AND closed_at IS NOT NULL`, sqldb.Postgres.Quote(p.generations), number))
	for _, statement := range statements {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return errors.Join(err, ctx.Err())
		}
	}
	return nil
}
