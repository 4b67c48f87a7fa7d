package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

func openPostgres(ctx context.Context, dsn string, options Options) (*sql.DB, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil || cutShort(dsn) || strings.Contains(config.Host, "@") {
		// The driver's error quotes the DSN, and masks passwords it recognizes.
		return nil, errors.New("open database: the PostgreSQL DSN cannot be read: expected postgres://user:password@host:5432/db?sslmode=require; a password with special characters must be percent-encoded, and files named by sslrootcert, sslcert and sslkey must exist")
	}
	set := func(name, value string) {
		if _, given := config.RuntimeParams[name]; !given {
			config.RuntimeParams[name] = value
		}
	}
	set("timezone", "UTC")
	if options.LockTimeout > 0 {
		set("lock_timeout", strconv.FormatInt(max(options.LockTimeout.Milliseconds(), 1), 10))
	}
	if options.IdleInTransaction > 0 {
		set("idle_in_transaction_session_timeout", strconv.FormatInt(max(options.IdleInTransaction.Milliseconds(), 1), 10))
	}
	if options.Isolation != "" {
		set("default_transaction_isolation", options.isolation())
	}
	where := net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port))) + "/" + config.Database
	return started(ctx, stdlib.OpenDB(*config), options, func(err error) error {
		return explainPostgres(where, config.User, err)
	})
}

// explainPostgres says in the user's words why a server was not reached. Its
// errors do not carry the driver's text, which has the DSN's parts in it.
func explainPostgres(where, user string, err error) error {
	failure, answered := errors.AsType[*pgconn.PgError](err)
	switch {
	case answered && (failure.Code == "28P01" || failure.Code == "28000"):
		return fmt.Errorf("open database postgres %s: user %q was refused: check user and password, and the server's pg_hba.conf: %s", where, user, failure.Message)
	case answered && failure.Code == "3D000":
		return fmt.Errorf("open database postgres %s: the database does not exist: create it, or correct the DSN", where)
	case answered:
		return fmt.Errorf("open database postgres %s: %w", where, failure)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("open database postgres %s: %w", where, context.Canceled)
	}
	return fmt.Errorf("open database postgres %s: no answer: check that the server runs there, and the TLS settings of the DSN: %s", where, lastLine(err))
}
