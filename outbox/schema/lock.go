package schema

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/pressly/goose/v3/lock"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

// newLocker returns what keeps two processes from migrating at once; nil on
// SQLite, see Schema.Up.
func newLocker(dialect sqldb.Dialect, version string) (lock.SessionLocker, error) {
	switch dialect {
	case sqldb.Postgres:
		return lock.NewPostgresSessionLocker(lock.WithLockID(int64(crc32.ChecksumIEEE([]byte("hapax " + version)))))
	case sqldb.MySQL:
		return mysqlLocker("hapax migrate " + version), nil
	}
	return nil, nil
}

// mysqlLocker is a named lock of the server. It ends with its connection.
type mysqlLocker string

const mysqlLockSeconds = 60

// SessionLock implements lock.SessionLocker.
func (l mysqlLocker) SessionLock(ctx context.Context, conn *sql.Conn) error {
	var got sql.NullInt64
	if err := conn.QueryRowContext(ctx, `SELECT GET_LOCK(?, ?)`, l.name(), mysqlLockSeconds).Scan(&got); err != nil {
		return fmt.Errorf("lock schema: %w", err)
	}
	if got.Int64 != 1 {
		return errors.New("lock schema: another process has been migrating for a minute: try again")
	}
	return nil
}

// SessionUnlock implements lock.SessionLocker.
func (l mysqlLocker) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, `DO RELEASE_LOCK(?)`, l.name())
	return err
}

// name is within the 64 characters that a lock's name may have.
func (l mysqlLocker) name() string {
	return fmt.Sprintf("hapax_migrate_%08x", crc32.ChecksumIEEE([]byte(l)))
}
