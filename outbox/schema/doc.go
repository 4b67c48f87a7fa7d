// Package schema has the tables of the inbox, the outbox and the ledger, as
// versioned migrations embedded in the program.
//
//	tables, err := schema.New(db, dialect, schema.Names{})
//	applied, err := tables.Up(ctx)     // hapax migrate up
//	list, err := tables.Status(ctx)    // hapax migrate status
//	text, err := tables.SQL()          // hapax migrate sql, for people who run their own
//	err = tables.Check(ctx)            // at start, where Up is not allowed
//
// Which migrations have run is kept in a table of its own, hapax_migrations, so that
// it does not meet the application's migrations, whatever tool runs those. The
// names of all tables can be chosen, once: a database migrated under some names
// does not know of others, which CheckNames tells.
//
// # Writing a migration
//
// migrations/<dialect>/0007_what.sql, for every dialect (a file of only a comment
// where there is nothing to do). It is a text/template with two functions:
// {{table .Outbox "_parked"}} is the quoted name with its schema, of the table
// whose name ends so; {{index .Outbox "_pending"}} the quoted name without, as
// CREATE INDEX takes it. Statements end with a semicolon at the end of a line. On
// PostgreSQL and SQLite a migration is one transaction; on MySQL every statement
// commits by itself, so one that is killed half way runs again from its start:
// write IF NOT EXISTS.
package schema
