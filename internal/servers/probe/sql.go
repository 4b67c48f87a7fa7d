package probe

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	// database/sql finds a driver by its import.
	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
)

// Postgres logs in and asks for the version. A server in recovery refuses the login.
func Postgres(ctx context.Context, url string) (string, error) {
	return askSQL(ctx, "pgx", url, "SHOW server_version")
}

// MariaDB logs in and asks for the version.
func MariaDB(ctx context.Context, dsn string) (string, error) {
	return askSQL(ctx, "mysql", dsn, "SELECT VERSION()")
}

func askSQL(ctx context.Context, driver, dsn, question string) (string, error) {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", driver, err)
	}
	defer db.Close()
	var version string
	if err := db.QueryRowContext(ctx, question).Scan(&version); err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", driver, err)
	}
	version, _, _ = strings.Cut(version, " ")
	return version, nil
}
