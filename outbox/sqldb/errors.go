package sqldb

import (
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	sqlite3 "modernc.org/sqlite/lib"
)

// Retryable reports that a transaction failed only because of others at the same
// time: a serialization failure, a deadlock, a lock that was not had in time.
// Nothing of it happened, and the whole transaction can be tried again.
func Retryable(err error) bool {
	switch state, number := codes(err); {
	case state == "40001", state == "40P01", state == "55P03": // serialization, deadlock, lock not available
		return true
	case number == 1213, number == 1205, number == 3572, number == 1020: // deadlock, lock wait, NOWAIT, record has changed
		return true
	}
	return IsBusy(err)
}

// IsUnique reports that a row was refused because a unique index has it already.
func IsUnique(err error) bool {
	state, number := codes(err)
	return state == "23505" || number == 1062 || number == 1586 ||
		extended(err) == sqlite3.SQLITE_CONSTRAINT_UNIQUE || extended(err) == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
}

// IsRefused reports that the database does not take what a statement, or what the
// transaction that commits, has written: a constraint, a value that does not fit its
// column, an error that a trigger raised. It will not take it the next time either.
func IsRefused(err error) bool {
	state, number := codes(err)
	if failure, ok := errors.AsType[*mysql.MySQLError](err); ok {
		state = string(failure.SQLState[:])
		// A value that is larger than max_allowed_packet: "unknown error", of which only
		// the text tells.
		if failure.Number == 1105 && strings.Contains(failure.Message, "max_allowed_packet") {
			return true
		}
	}
	switch class := state[:min(len(state), 2)]; class {
	case "22", "23", "44", "45", "54", "P0": // data, integrity, WITH CHECK OPTION, SIGNAL, limits, RAISE
		return true
	}
	if number == 1366 || errors.Is(err, mysql.ErrPktTooLarge) { // incorrect value for a column
		return true
	}
	switch code(err) {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH:
		return true
	}
	return false
}

// IsMissing reports that a statement names a table, a column or a schema that
// does not exist: a migration has not run.
func IsMissing(err error) bool {
	state, number := codes(err)
	return state == "42P01" || state == "42703" || state == "3F000" ||
		number == 1146 || number == 1054 || number == 1049 || code(err) == sqlite3.SQLITE_ERROR && missingText(err)
}

// IsLost reports that the connection is gone, and with it the transaction. What
// became of a COMMIT that fails so is unknown.
func IsLost(err error) bool {
	state, _ := codes(err)
	var network net.Error
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &network) ||
		state == "57P01" || state == "57P02" || state == "57P03" || state == "25P03" || len(state) == 5 && state[:2] == "08"
}

// IsBroken reports that the database cannot write or read just now, whatever it is asked: its
// disk is full or fails, or its file may not be written.
func IsBroken(err error) bool {
	state, number := codes(err)
	switch code(err) {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CANTOPEN:
		return true
	}
	return state == "53100" || state == "58030" || number == 1021 || number == 1114
}

// IsIdle reports that PostgreSQL has ended the connection because a transaction stood for
// longer than Options.IdleInTransaction without a statement.
func IsIdle(err error) bool {
	state, _ := codes(err)
	return state == "25P03"
}

// codes are an error's SQLSTATE of PostgreSQL, or its number of MySQL.
func codes(err error) (state string, number uint16) {
	if failure, ok := errors.AsType[*pgconn.PgError](err); ok {
		return failure.Code, 0
	}
	if failure, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return "", failure.Number
	}
	return "", 0
}
