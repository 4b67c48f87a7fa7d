package probe

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // found by its import
)

// Postgres logs in and asks for the version. A server in recovery refuses the login.
func Postgres(ctx context.Context, url string) (string, error) {
	db, err := sql.Open("pgx", url)
	if err != nil {
		return "", fmt.Errorf("ask postgres: %w", err)
	}
	return askSQL(ctx, "postgres", db, "SHOW server_version")
}

// MariaDB logs in and asks for the version.
func MariaDB(ctx context.Context, dsn string) (string, error) {
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		return "", fmt.Errorf("ask mariadb: %w", err)
	}
	// Docker accepts connections for a server that does not listen yet and drops
	// them. The driver would print a line for each; the error says it too.
	config.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return "", fmt.Errorf("ask mariadb: %w", err)
	}
	return askSQL(ctx, "mariadb", sql.OpenDB(connector), "SELECT VERSION()")
}

func askSQL(ctx context.Context, server string, db *sql.DB, question string) (string, error) {
	defer db.Close()
	var version string
	if err := db.QueryRowContext(ctx, question).Scan(&version); err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", server, err)
	}
	version, _, _ = strings.Cut(version, " ")
	return version, nil
}
