// Package inbox lets a handler's SQL writes, the mark of its event, its outputs
// and the acknowledgement commit in one transaction, and lets many handlers share
// such a transaction.
//
// A handler asks for the transaction with [Tx] and writes with it:
//
//	func Charge(ctx context.Context, o Order) error {
//		tx, err := inbox.Tx(ctx)
//		if err != nil {
//			return err
//		}
//		_, err = tx.ExecContext(ctx, `INSERT INTO charges (order_id) VALUES (?)`, o.ID)
//		return err
//	}
//
// It must not commit the transaction or roll it back: the processing order does,
// after the handler. Both are refused, and fail the handler's event. What lasts until a
// transaction's end (SET LOCAL, ON COMMIT DROP, pg_advisory_xact_lock) lasts for the
// handlers that share it: set such a thing anew each time, and do not rely on its absence.
// What is the session's (SET, USE, PRAGMA, ATTACH, a temporary table, pg_advisory_lock or
// GET_LOCK) lasts as long: its connection is closed with the transaction. So it is after a
// DO block of PostgreSQL.
//
// With [Open] on PostgreSQL, MySQL, MariaDB or SQLite this works beside any broker:
// the table of processed events (event ID, type, handler, time, [SetResult]) can be
// queried by people, and outputs are stored as rows of an [Outbox].
//
// # One processing order
//
//	Claim   look the event up in the marks; nothing is held
//	handle  the first call of Tx waits for the turn; on PostgreSQL and MySQL the
//	        mark is inserted before the turn is given, so that of two copies in two
//	        processes only one ever writes anything
//	Commit  outputs, result, COMMIT; then the broker is acknowledged
//
// SQLite has one writer and shares its transactions by a [Group], the others have
// several and share theirs by a [Pool]. In either the handler has a plain *sql.Tx to
// itself. How marks expire without a DELETE is told in generations.go.
//
// # The group
//
// A database with a single writer, as SQLite is, commits some thousand times a
// second, because each commit waits for the disk. [Group] lets up to 256 units of
// work share a commit, without waiting for company: while one transaction
// commits, the next ones queue, and they are the next group.
//
//	submitted ──► queued ──► running in its savepoint ──► awaiting COMMIT ──► done
//	                │                  │                        │
//	                │ its ctx ends     │ it fails               │ COMMIT fails
//	                ▼                  ▼                        ▼
//	            withdrawn     rolled back, alone            error to all
//
// A plain unit is a function that the group's writer runs. A [Turn] is a handler
// that has the transaction to itself, from its first call of Tx until it commits
// or fails. A handler that never calls Tx never holds the writer.
//
// What every event's commit does (mark it, store its outputs) is cheaper for many
// at once, so units of a [Batch] run together, turns' last ones too. When such a
// batch fails, plain units run again one by one. A turn cannot, since its handler
// has returned: turns beside one whose last unit failed get [ErrUndone], once, and
// are then kept apart.
//
// # Killed here, what happens?
//
// Before COMMIT returned: nothing of the group happened. After: all of it did.
// There is no third state, and no unit is told "done" before COMMIT has returned.
// When COMMIT itself fails, its outcome is unknown, and every unit is told so.
//
// # One writer means one
//
// While a handler holds its turn, nobody else writes to that database, in no
// process. Keep the time between the first call of Tx and the handler's return
// short: do the slow work before. A turn is taken away after Config.TurnTimeout.
// A process that is stopped (SIGSTOP) in the middle of a turn holds up the others
// until it goes on or is killed; that costs time and no guarantee.
//
// All of this is SQLite's. On PostgreSQL and MySQL a turn holds up only those that
// share its transaction, and handlers whose turns are slow get one of their own; one
// that holds a shared transaction for Config.TurnTimeout loses it.
//
// Inside a turn, statements are not interrupted when their context ends, because
// SQLite answers an interrupt by rolling back the whole transaction, the other
// handlers' work with it. And a publisher that writes to the same database (not
// handlers.Emit) waits for the turn to end, so it must not be called inside one.
package inbox
