package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

func openMySQL(ctx context.Context, dsn string, options Options) (*sql.DB, error) {
	config, err := parseMySQL(dsn)
	if err != nil {
		return nil, err
	}
	// Times go both ways as time.Time in UTC, whatever the server's zone is.
	config.ParseTime, config.Loc = true, time.UTC
	// One round trip a statement instead of three: prepare, run, close.
	config.InterpolateParams = true
	// The driver asks the server how much it takes, and sends larger statements in parts.
	// It would otherwise guess 64 MiB, and a server that takes less, as MariaDB does where
	// nobody set it, cuts the connection off.
	if config.MaxAllowedPacket == mysql.NewConfig().MaxAllowedPacket {
		config.MaxAllowedPacket = 0
	}
	config.Logger = &mysql.NopLogger{} // what it would write to standard error it returns too
	if config.Timeout == 0 {
		config.Timeout = 10 * time.Second
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, errors.New("open database: the MySQL DSN cannot be used: check its options, tls among them")
	}
	where := config.Addr + "/" + config.DBName
	db := sql.OpenDB(&setup{connector, mysqlSettings(options)})
	return started(ctx, db, options, func(err error) error { return explainMySQL(where, config.User, err) })
}

// parseMySQL reads the driver's own form, or a URL.
func parseMySQL(dsn string) (*mysql.Config, error) {
	_, rest, isURL := strings.Cut(dsn, "://")
	if !isURL {
		config, err := mysql.ParseDSN(dsn)
		if err != nil {
			return nil, errors.New("open database: the MySQL DSN cannot be read: expected user:password@tcp(host:3306)/db or mysql://user:password@host:3306/db")
		}
		return config, nil
	}
	address, err := url.Parse("mysql://" + rest)
	if err != nil || address.Hostname() == "" || cutShort(dsn) {
		return nil, errors.New("open database: the MySQL URL cannot be read: expected mysql://user:password@host:3306/db; a password with special characters must be percent-encoded")
	}
	config, err := mysql.ParseDSN("/?" + address.RawQuery)
	if err != nil {
		return nil, errors.New("open database: the options of the MySQL URL cannot be read: expected those of go-sql-driver/mysql, such as tls=true")
	}
	port := address.Port()
	if port == "" {
		port = "3306"
	}
	config.User = address.User.Username()
	config.Passwd, _ = address.User.Password()
	config.Net, config.Addr = "tcp", net.JoinHostPort(address.Hostname(), port)
	config.DBName = strings.TrimPrefix(address.Path, "/")
	return config, nil
}

// mysqlSettings are the statements that a new connection begins with.
func mysqlSettings(options Options) []string {
	settings := []string{"SET SESSION time_zone = '+00:00'"}
	seconds := func(d time.Duration) string {
		return strconv.Itoa(max(1, int(math.Ceil(d.Seconds())))) // whole seconds are all it knows
	}
	if options.LockTimeout > 0 {
		settings = append(settings, "SET SESSION innodb_lock_wait_timeout = "+seconds(options.LockTimeout),
			"SET SESSION lock_wait_timeout = "+seconds(options.LockTimeout))
	}
	if options.IdleInTransaction > 0 {
		// The server has no such limit for transactions only. An idle connection
		// of the pool ends as well, and is replaced.
		settings = append(settings, "SET SESSION wait_timeout = "+seconds(options.IdleInTransaction))
	}
	if options.Isolation != "" {
		settings = append(settings, "SET SESSION TRANSACTION ISOLATION LEVEL "+options.isolation())
	}
	return settings
}

// setup is a connector whose connections begin with some statements.
type setup struct {
	driver.Connector
	statements []string
}

// Connect implements driver.Connector.
func (s *setup) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := s.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	for _, statement := range s.statements {
		if _, err := conn.(driver.ExecerContext).ExecContext(ctx, statement, nil); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", statement, err), conn.Close())
		}
	}
	return conn, nil
}

// explainMySQL says in the user's words why a server was not reached.
func explainMySQL(where, user string, err error) error {
	failure, answered := errors.AsType[*mysql.MySQLError](err)
	switch {
	case answered && (failure.Number == 1045 || failure.Number == 1698):
		return fmt.Errorf("open database mysql %s: user %q was refused: check user and password: %s", where, user, failure.Message)
	case answered && failure.Number == 1044:
		return fmt.Errorf("open database mysql %s: user %q has no rights on the database: grant them: %s", where, user, failure.Message)
	case answered && failure.Number == 1049:
		return fmt.Errorf("open database mysql %s: the database does not exist: create it, or correct the DSN", where)
	case answered:
		return fmt.Errorf("open database mysql %s: %w", where, failure)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("open database mysql %s: %w", where, context.Canceled)
	}
	return fmt.Errorf("open database mysql %s: no answer: check that the server runs there, and the TLS settings of the DSN: %s", where, lastLine(err))
}

// lastLine is the innermost error's text.
func lastLine(err error) string {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	text := err.Error()
	return text[strings.LastIndex(text, "\n")+1:]
}
