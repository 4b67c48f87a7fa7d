package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

// Shards is the number of shards that keys fall into. Writers and relays must
// agree on it, so it is no setting. It bounds how many relays share the work.
const Shards = 32

// DefaultTable is the table's name when a Config has none.
const DefaultTable = "hapax_outbox"

// Config says where the outbox is.
type Config struct {
	// Dialect is the database's. Default sqldb.Postgres.
	Dialect sqldb.Dialect
	// Table is the outbox's table. Default DefaultTable, in no schema.
	Table sqldb.Table
	// Copy writes large batches with PostgreSQL's COPY, which is faster. Executors must
	// be connections of pgx, by themselves (pgxtx) or behind database/sql, and the table
	// must have no row-level security. Default false.
	Copy bool
}

// Executor runs a statement: *sql.Tx, *sql.Conn, GORM's ConnPool, or pgxtx.Wrap of
// a pgx.Tx. A *sql.DB works too; it publishes without a transaction.
type Executor interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Resolve fills in the defaults and checks what was given.
func (c Config) Resolve() (Config, error) {
	if c.Dialect == "" {
		c.Dialect = sqldb.Postgres
	}
	if c.Table.Name == "" {
		c.Table.Name = DefaultTable
	}
	if known := []sqldb.Dialect{sqldb.Postgres, sqldb.MySQL, sqldb.SQLite}; !slices.Contains(known, c.Dialect) {
		return c, fmt.Errorf("configure outbox: dialect is %q, expected one of %q", c.Dialect, known)
	}
	if len(c.Table.Name) > maxTable {
		return c, fmt.Errorf("configure outbox: table %q is %d letters long, expected %d at most: tables beside it have longer names", c.Table.Name, len(c.Table.Name), maxTable)
	}
	if err := c.Table.Validate(c.Dialect); err != nil {
		return c, fmt.Errorf("configure outbox: %w", err)
	}
	return c, nil
}

// maxTable leaves room for "_shards" in an identifier of PostgreSQL.
const maxTable = 48

var errNoTransaction = errors.New("publish to outbox: no transaction was given")
