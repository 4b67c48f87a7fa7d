package sqldb

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
)

// TxState is what a connection knows of its transaction without asking.
type TxState byte

const (
	// TxUnknown: the driver does not tell.
	TxUnknown TxState = 0
	// TxNone: no transaction stands.
	TxNone TxState = 'I'
	// TxOpen: it stands, and takes statements.
	TxOpen TxState = 'T'
	// TxAborted: a statement failed; only a rollback is left. PostgreSQL answers
	// COMMIT with a rollback then, and with no error.
	TxAborted TxState = 'E'
)

// StateOf returns the state of a driver's connection, as sql.Conn.Raw has it.
func StateOf(raw any) TxState {
	if conn, ok := raw.(*stdlib.Conn); ok {
		if conn.Conn().IsClosed() {
			return TxNone
		}
		return TxState(conn.Conn().PgConn().TxStatus())
	}
	return TxUnknown
}

// EndsTransaction reports that after this error of a statement the transaction is
// gone altogether, where others only undo the statement (MySQL) or wait for a
// rollback (PostgreSQL).
func EndsTransaction(err error) bool {
	_, number := codes(err)
	return number == 1213 || number == 1020 || number == 1614 || number == 1180 || IsLost(err)
}

// Undone is EndsTransaction for a driver's connection, as sql.Conn.Raw has it. A lock that
// was not had in time undoes the statement, or the transaction where MySQL is told so
// (innodb_rollback_on_timeout); so the server is asked. One that does not answer is taken
// to have undone it all.
func Undone(ctx context.Context, raw any, err error) bool {
	if EndsTransaction(err) {
		return true
	}
	conn, ok := raw.(driver.QueryerContext)
	if _, number := codes(err); number != 1205 || !ok {
		return false
	}
	rows, err := conn.QueryContext(ctx, `SELECT 1 FROM DUAL WHERE @@innodb_rollback_on_timeout = 0`, nil)
	if err != nil {
		return true
	}
	defer rows.Close()
	return rows.Next(make([]driver.Value, 1)) != nil
}

// Interrupter returns a function that fails the statement which runs on a driver's
// connection, as sql.Conn.Raw has it, and all that come after it: the connection must be
// thrown away. Any goroutine may call it. Nil: the driver has no such thing, and only the
// end of a statement's context interrupts it.
//
// pgx does the same at the end of a context; but for a context that ends it
// registers, and takes back, a function with each statement.
func Interrupter(raw any) func() {
	conn, ok := raw.(*stdlib.Conn)
	if !ok {
		return nil
	}
	socket := conn.Conn().PgConn().Conn()
	return func() { _ = socket.SetDeadline(time.Unix(1, 0)) }
}
