package inbox

import (
	"context"
	"database/sql"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

// mysqlPartitions adds and drops partitions in place. Either needs the table for
// itself for a moment: it waits for the transactions that use it, and those that
// come wait behind it, so it gives up soon (ddlPatience).
type mysqlPartitions struct{ inbox, generations sqldb.Table }

// ddlPatience is in whole seconds, as the server counts.
const ddlPatience = 1

func (p mysqlPartitions) lockName() string {
	return fmt.Sprintf("hapax_inbox_%08x", crc32.ChecksumIEEE([]byte(p.inbox.Schema+"."+p.inbox.Name)))
}

// lockName alone is known to the whole server, so the database's name goes with it.
func (p mysqlPartitions) lockMaintenance(ctx context.Context, conn *sql.Conn) (bool, error) {
	var got sql.NullInt64
	err := conn.QueryRowContext(ctx, `SELECT GET_LOCK(SHA1(CONCAT(COALESCE(DATABASE(), ''), ?)), 0)`, p.lockName()).Scan(&got)
	return got.Int64 == 1, err
}

func (p mysqlPartitions) unlockMaintenance(ctx context.Context, conn *sql.Conn) {
	_, _ = conn.ExecContext(ctx, `DO RELEASE_LOCK(SHA1(CONCAT(COALESCE(DATABASE(), ''), ?)))`, p.lockName())
}

func (p mysqlPartitions) exists(ctx context.Context, conn *sql.Conn, number int64) (found bool, err error) {
	err = conn.QueryRowContext(ctx, `SELECT count(*) > 0 FROM information_schema.partitions
		WHERE table_schema = COALESCE(NULLIF(?, ''), DATABASE()) AND table_name = ? AND partition_name = ?`,
		p.inbox.Schema, p.inbox.Name, fmt.Sprintf("g%d", number)).Scan(&found)
	return found, err
}

func (p mysqlPartitions) prepare(ctx context.Context, conn *sql.Conn, number int64) error {
	if found, err := p.exists(ctx, conn, number); err != nil || found {
		return err
	}
	return p.alter(ctx, conn, fmt.Sprintf(`ADD PARTITION (PARTITION g%d VALUES LESS THAN (%d))`, number, number+1))
}

func (p mysqlPartitions) alter(ctx context.Context, conn *sql.Conn, change string) error {
	return withSetting(ctx, conn, "lock_wait_timeout", ddlPatience, func() error {
		_, err := conn.ExecContext(ctx, `ALTER TABLE `+sqldb.MySQL.Quote(p.inbox)+` `+change)
		return err
	})
}

// withSetting runs fn under another value of a session's variable.
func withSetting(ctx context.Context, conn *sql.Conn, name string, value int, fn func() error) error {
	var before int
	if err := conn.QueryRowContext(ctx, `SELECT @@SESSION.`+name).Scan(&before); err != nil {
		return err
	}
	set := func(ctx context.Context, value int) error {
		_, err := conn.ExecContext(ctx, fmt.Sprintf(`SET SESSION %s = %d`, name, value))
		return err
	}
	if err := set(ctx, value); err != nil {
		return err
	}
	err := fn()
	_ = set(context.WithoutCancel(ctx), before) // a connection that refuses is lost anyway
	return err
}

func (p mysqlPartitions) turn(ctx context.Context, conn *sql.Conn, from int64, _ time.Duration) error {
	return withSetting(ctx, conn, "innodb_lock_wait_timeout", ddlPatience, func() error {
		tx, err := conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
		if err != nil {
			return err
		}
		defer tx.Rollback() //nolint:errcheck // after a COMMIT it does nothing
		generations := sqldb.MySQL.Quote(p.generations)
		// The lock first: it waits for every transaction that writes marks.
		var keep int64
		err = tx.QueryRowContext(ctx, `SELECT keep_seconds FROM `+generations+` WHERE generation = ? AND closed_at IS NULL FOR UPDATE`, from).Scan(&keep)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO `+generations+` (generation, opened_at, keep_seconds) VALUES (?, UTC_TIMESTAMP(6), ?)`, from+1, keep); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE `+generations+` SET closed_at = UTC_TIMESTAMP(6) WHERE generation = ?`, from); err != nil {
			return err
		}
		return tx.Commit()
	})
}

func (p mysqlPartitions) drop(ctx context.Context, conn *sql.Conn, number int64) error {
	found, err := p.exists(ctx, conn, number)
	if err != nil {
		return err
	}
	if found {
		if err := p.alter(ctx, conn, fmt.Sprintf(`DROP PARTITION g%d`, number)); err != nil {
			return err
		}
	}
	_, err = conn.ExecContext(ctx, `DELETE FROM `+sqldb.MySQL.Quote(p.generations)+` WHERE generation = ? AND closed_at IS NOT NULL`, number)
	return err
}
