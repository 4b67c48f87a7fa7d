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
// What an insert of a random ID costs is the pages it dirties, hardly anything
// else; and the larger the index, the surer it is that each ID has a page of its
// own, which is in no cache. So marks are divided into generations, of which only
// the newest takes any: 65,536 of them, or an eighth of a window, the longest of its
// marks. The table is
// clustered by generation and ID, so inserts meet the same few hundred pages
// however many marks there are. A generation leaves whole, when its last mark has
// expired. What reports show is a log, written at its end and removed from its
// start; leases, which are few, have a table of their own.
//
// An ID is looked up in the newest generation, and in those older ones whose
// filters may have it: none, for most new IDs. Filters are written when a
// generation is closed, and every process keeps them, some four bytes an ID. That
// is exact, because a closed generation never changes, and because which ones
// there are is read in the transaction that decides, under the write lock: copies
// of an event that arrive on both sides of a turn look into the same generations.
//
// Time is the machine's wall clock, in milliseconds, which all processes that
// can open the file share.
package sqlite
