// Package database is a ledger in PostgreSQL, MySQL or MariaDB, for services whose
// broker keeps no marks.
//
//	store, err := database.Open(ctx, db, database.Postgres, database.Config{})
//	ledger := coalesce.New(store)
//
// The tables are made by `hapax migrate up`. A call is one transaction, whatever
// the number of its entries. Time is the server's.
//
// # Layout
//
// A ledger is mostly old marks, which nobody changes and hardly anybody asks for.
// In one table with one index of random IDs they make every insert slow, because
// it changes a page that is in no cache; and they leave one DELETE at a time. So
// marks move:
//
//	            turn             pack               window over
//	hot table ───────► other one ─────► packed run ─────────────► gone
//	leases, marks      marks            marks, 24 a row
//
// Leases and new marks are rows of the hot table, where the primary key makes
// copies of an event meet. When it has 65,536 marks, or is an eighth of a window
// old, the ledger turns to the other table, which is empty. The marks left behind
// are packed, in the order of their IDs, into rows of a kilobyte; then their table
// is emptied at once. So inserts always meet a small table, an ID takes some 50
// bytes in the end, and a run leaves by deleting some thousand rows, one for every
// two dozen IDs.
//
// An ID is looked up in the hot table, in the other one while it is being packed,
// and in the runs. A process keeps the Bloom filters of all runs, some four bytes
// an ID, and reads only rows that may have an ID: none, for most new ones. This is
// exact: a run never changes, so what its filter rules out stays ruled out; and
// which runs there are is known from the same transaction.
//
// # The turn
//
// The trap of every such division is that the same ID is new in two places. Here
// a call holds a lock, shared with all others, from before it looks until it has
// committed; the turn has that lock alone. So for the length of a call there is
// one hot table, the same for all callers. And leases go with the turn: whoever
// claimed before it and whoever claims after it meet on one row. The lock is that
// of a table in PostgreSQL and of a row in MySQL. Upkeep gives up waiting for it
// after a second, because new calls wait behind it.
//
// That lock is known to one server: with several that take writes (Galera, group
// replication in multi-primary mode) send the ledger's calls to one of them.
//
// # Upkeep
//
// Every process does upkeep, in steps that each commit; one that dies leaves the
// next step to the others. The database user needs SELECT, INSERT, UPDATE, DELETE
// and TRUNCATE (in MySQL: DROP) on the ledger's tables, and no right to create.
package database
