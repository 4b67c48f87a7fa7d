package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Options are settings of every connection to PostgreSQL and MySQL. SQLite has
// one writer and ignores them.
type Options struct {
	// LockTimeout is how long a statement waits for a lock before it fails with
	// an error that Retryable accepts. 0: as the server is set.
	LockTimeout time.Duration
	// IdleInTransaction is how long a transaction may stand without a statement
	// before the server ends it, so that a process that was stopped in the
	// middle of one does not hold its locks for ever. 0: as the server is set.
	IdleInTransaction time.Duration
	// Isolation is the level of transactions that do not ask for one:
	// "read-committed", "repeatable-read" or "serializable". "": as the server
	// is set.
	Isolation string
	// MaxConns bounds the connections. Default: no bound.
	MaxConns int
}

// Open opens the database of a DSN with no options; see OpenWith.
func Open(ctx context.Context, dsn string) (*sql.DB, Dialect, error) {
	return OpenWith(ctx, dsn, Options{})
}

// OpenWith opens the database of a DSN and checks that it answers:
//
//	postgres://user:password@host:5432/db?sslmode=verify-full&sslrootcert=ca.pem
//	postgresql://…, or host=… user=… dbname=…          the same
//	mysql://user:password@host:3306/db?tls=true
//	mariadb://…, or user:password@tcp(host:3306)/db    the same
//	orders.db                                          a SQLite file
//	sqlite:orders.db, file:orders.db                   the same
//	sqlite:orders.db?synchronous=normal
//
// Options after the ? are those of the drivers pgx and go-sql-driver/mysql, TLS
// among them; SQLite knows synchronous. Times are in UTC. Transactions on SQLite
// take the write lock when they begin, so that none fails half way because
// another one was first. The caller closes the DB. No error carries the DSN.
func OpenWith(ctx context.Context, dsn string, options Options) (*sql.DB, Dialect, error) {
	if err := options.validate(); err != nil {
		return nil, "", err
	}
	dialect, rest, err := parse(dsn)
	if err != nil {
		return nil, "", err
	}
	var db *sql.DB
	switch dialect {
	case Postgres:
		db, err = openPostgres(ctx, dsn, options)
	case MySQL:
		db, err = openMySQL(ctx, dsn, options)
	default:
		db, err = openSQLite(ctx, rest)
	}
	return db, dialect, err
}

var (
	keywordForm = regexp.MustCompile(`^\s*([A-Za-z_]+)\s*=`)
	mysqlForm   = regexp.MustCompile(`@[a-z0-9]*\(.*\)/|^[^:@/?]*(:.*)?@/`)
)

// parse tells the dialect of a DSN; rest is what follows the scheme.
func parse(dsn string) (Dialect, string, error) {
	scheme, rest, found := strings.Cut(dsn, ":")
	switch {
	case found && (scheme == "postgres" || scheme == "postgresql"):
		return Postgres, rest, nil
	case found && (scheme == "mysql" || scheme == "mariadb") && strings.HasPrefix(rest, "//"):
		return MySQL, rest, nil
	case found && (scheme == "sqlite" || scheme == "file"):
		return SQLite, rest, nil
	case found && strings.HasPrefix(rest, "//"):
		return "", "", fmt.Errorf("open database: scheme %q is not known: expected postgres, mysql, mariadb or sqlite", scheme)
	case mysqlForm.MatchString(dsn):
		return MySQL, dsn, nil
	case keywordForm.MatchString(dsn):
		// The driver would take HOST for a parameter of the server. It is not the path of a
		// file either: that would be made, under a name that may have a password in it.
		if keyword := keywordForm.FindStringSubmatch(dsn)[1]; keyword != strings.ToLower(keyword) {
			return "", "", fmt.Errorf("open database: keyword %q is not known: PostgreSQL's are written in small letters; the path of a SQLite file comes behind sqlite: as in sqlite:FILE", keyword)
		}
		return Postgres, dsn, nil
	case strings.Contains(dsn, "@"):
		return "", "", fmt.Errorf("open database: the DSN is neither a URL nor a driver's own form: expected postgres://user:password@host/db, mysql://user:password@host/db or user:password@tcp(host:3306)/db, or the path of a SQLite file")
	}
	return SQLite, dsn, nil
}

// cutShort reports that a URL's password ends its authority, because of a / or # that is
// not percent-encoded: what is left of it looks like a database's name, which errors tell.
func cutShort(dsn string) bool {
	_, rest, isURL := strings.Cut(dsn, "://")
	rest, _, _ = strings.Cut(rest, "?") // options may have an @
	end := strings.IndexAny(rest, "/#")
	return isURL && end >= 0 && !strings.Contains(rest[:end], "@") && strings.Contains(rest[end:], "@")
}

func (o Options) validate() error {
	switch o.Isolation {
	case "", "read-committed", "repeatable-read", "serializable":
		return nil
	}
	return fmt.Errorf("open database: isolation is %q, expected read-committed, repeatable-read or serializable", o.Isolation)
}

// isolation is the level as SQL writes it.
func (o Options) isolation() string {
	return strings.ToUpper(strings.ReplaceAll(o.Isolation, "-", " "))
}

// started pings a new DB and gives it up when it does not answer.
func started(ctx context.Context, db *sql.DB, options Options, explain func(error) error) (*sql.DB, error) {
	db.SetMaxOpenConns(options.MaxConns)
	// The default of two would open and close connections all the time.
	db.SetMaxIdleConns(max(options.MaxConns, 16))
	idle := 5 * time.Minute
	if options.IdleInTransaction > 0 {
		idle = min(idle, options.IdleInTransaction/2) // MySQL ends them then
	}
	db.SetConnMaxIdleTime(idle)
	if err := db.PingContext(ctx); err != nil {
		_ = db.Close()
		return nil, explain(err)
	}
	return db, nil
}
