package database

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/hapax-go/hapax/dedup"
)

// Dialect is the SQL that a database speaks.
type Dialect string

// The databases that a Ledger can be kept in.
const (
	Postgres Dialect = "postgres"
	// MySQL is MySQL 8 and MariaDB 10.5 or later.
	MySQL Dialect = "mysql"
)

// statement is a statement and the number of rows it must change; less than 0:
// any number.
type statement struct {
	text string
	args []any
	rows int64
}

// sqlDialect writes the statements in which databases differ. Rows of a slot are
// changed only while they are as they were read (token, expiry, kind): either
// reading has locked them, or a statement that changes fewer rows than it should
// says that somebody was faster.
type sqlDialect interface {
	// begin begins a transaction in which every statement sees what was
	// committed before it. It holds the turn's lock: shared, or exclusive.
	begin(ctx context.Context, db beginner, t tables, exclusive bool) (*sql.Tx, error)
	// readState reads epoch, slot, stage, the time of the last turn, and the clock.
	readState(t tables, exclusive bool) string
	// lockKeeper reads run, buckets, packed and keeps others from it.
	lockKeeper(t tables) string

	readHot(table string, ids []dedup.ID, lock bool) statement
	readPacked(t tables, places []int64) statement
	insertLeases(table string, leases []change) statement
	replaceLeases(table string, leases []change) statement
	renew(table string, held []change) statement
	mark(table string, held []change) statement
	release(table string, held []change) statement

	idLiteral(id dedup.ID) string
	blobLiteral(content []byte) string
	idColumn(name string) string
	truth() string
	// empty empties a table of any size at once.
	empty(table string) string
	// fence makes a session the only keeper, where the locks of transactions are
	// not enough: statements, the last of which reads 1 or 0.
	fence(t tables) (lock, unlock []string)
}

// beginner is a *sql.DB or a *sql.Conn.
type beginner interface {
	BeginTx(ctx context.Context, options *sql.TxOptions) (*sql.Tx, error)
}

// change is what becomes of an ID's row. was is how it was read.
type change struct {
	id      dedup.ID
	digest  dedup.Digest
	token   uint64
	expires int64
	was     row
}

// tables are the names of the ledger's tables.
type tables struct {
	state, keeper, runs, packed string
	hot                         [2]string
}

func newTables(name string) tables {
	return tables{
		state: name, keeper: name + "_keeper", runs: name + "_runs", packed: name + "_packed",
		hot: [2]string{name + "_hot_0", name + "_hot_1"},
	}
}

// errRaced: a row changed between reading and writing it.
var errRaced = errors.New("another worker was faster, again and again")

// retryable reports whether a transaction that failed did nothing and may succeed
// when it is tried again: it lost a race, or the server ended it for the sake of
// another one.
func retryable(err error) bool {
	if errors.Is(err, errRaced) {
		return true
	}
	// The drivers stay out of this package; both tell the SQLSTATE, PostgreSQL's
	// by a method and MySQL's in the text: "Error 1213 (40001): Deadlock found".
	if state, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		return state.SQLState() == "40001" || state.SQLState() == "40P01"
	}
	return err != nil && (strings.Contains(err.Error(), "Error 1213 ") || strings.Contains(err.Error(), "Error 1020 "))
}

// missing reports whether an error says that a table does not exist.
func missing(err error) bool {
	if state, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		return state.SQLState() == "42P01" || state.SQLState() == "3F000"
	}
	return err != nil && (strings.Contains(err.Error(), "Error 1146 ") || strings.Contains(err.Error(), "Error 1049 "))
}
