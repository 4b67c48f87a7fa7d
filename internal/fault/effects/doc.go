// Package effects is a store of effects and deliveries that shows duplicates
// instead of preventing them: no column but the row number is unique.
//
// An effect is written where a real service would write its own rows: by a
// consumer without deduplication straight into the database, by a Hapax handler
// on the transaction of its inbox. Both go through Insert, on a *sql.DB or a
// *sql.Tx. Deliveries are written outside any transaction, at the start of the
// handler: they count what was tried, committed or not.
//
// A store opened by Open survives SIGKILL of any of its writers, but not a crash
// of the machine: it is never synced to the disk, which makes it fast enough not
// to slow down what it watches.
package effects
