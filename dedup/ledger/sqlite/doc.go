// Package sqlite is a ledger in a SQLite file: for services on one machine, and
// for the embedded broker, whose messages live in the same file.
//
// The caller opens the database, with the modernc.org/sqlite driver:
//
//	db, err := sql.Open("sqlite", "file:hapax.db?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_txlock=immediate")
//	ledger, err := sqlite.Open(ctx, db, sqlite.Config{})
//
// busy_timeout is how long a call waits for another writer; without it a busy
// file is an error at once.
//
// # Two ways in
//
// As a dedup.Ledger every call is a transaction of its own. A caller that has a
// transaction already, because its outputs live in the same file, uses Lookup
// (nothing is held) and Mark (everything commits together) within it.
//
// # Layout
//
// Marks are rows of a table in the order in which they were made, with a unique
// index on the ID; leases, which are few, have a table of their own. What an
// insert of random IDs costs is the number of pages it dirties, hardly anything
// else: the index entry of 24 bytes is all that goes to a random place, while
// the row with its digest and texts goes to the end. And since marks are made in
// the order in which they expire, Expire reads the table from its start and
// needs no index on time.
//
// Time is the machine's wall clock, in milliseconds, which all processes that
// can open the file share.
package sqlite
