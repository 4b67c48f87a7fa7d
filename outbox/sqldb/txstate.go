package sqldb

import "github.com/jackc/pgx/v5/stdlib"

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
