// Package outbox lets events leave if and only if a database transaction commits.
//
// A program that writes to its database and then publishes loses the event when
// it dies in between; one that publishes first tells of what never happened. So
// the event is written to a table, in the transaction that it tells of:
//
//	tx, err := db.BeginTx(ctx, nil)
//	…
//	_, err = tx.ExecContext(ctx, `INSERT INTO orders …`)
//	events, err := outbox.NewPublisher(ctx, tx, outbox.Config{Dialect: sqldb.Postgres})
//	err = events.Publish("orders.created", message.NewMessage(watermill.NewUUID(), payload))
//	err = tx.Commit()
//
// and package relay brings the table's rows to a broker afterwards. The [Publisher]
// is Watermill's SQL publisher with a schema of our own. It needs nothing of the
// rest of Hapax: an HTTP handler or a cron job may use it, with any driver of
// database/sql, with GORM (pass tx.Statement.ConnPool) or with pgx (package
// outbox/sqldb/pgxtx).
//
// # The table
//
//	id           the order of the rows
//	shard        of the key; one relay at a time publishes a shard
//	topic, message_key, event_id, uuid, metadata, payload
//	created_at   when the row was written
//	state        0 waits, 1 published, 2 parked
//	attempts     failed tries to publish; reason is why the last one failed
//	settled_at   when it was published or parked
//
// One table serves all topics, so a topic may have any name. Migrations come with
// package schema; there is no CREATE TABLE on the way of a message, because on
// MySQL that would commit the caller's transaction.
//
// # Order
//
// Rows of one key are published in the order in which they were written, as far
// as there is one: within a transaction, and between transactions of which the
// second one began to write after the first had committed. Of two that run at the
// same time either may be first.
//
// The order of ids is not the order of commits: a row may become visible after
// one with a higher id was published. So nothing remembers how far it has read;
// a row waits for as long as its state says so.
package outbox
