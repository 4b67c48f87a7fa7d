// Package once makes single SQL operations repeatable: doing one again changes
// nothing, and says so. It needs no event, no handler and no broker, and works in
// any transaction of PostgreSQL, MySQL, MariaDB and SQLite.
//
// The inbox makes a handler take effect once per event. Sometimes that is not the
// question: two events, or an event and a person, ask for the same thing. Then the
// thing itself needs an ID, and its table a unique key.
//
// Create a row once, and get the one that is there otherwise:
//
//	orders := once.Table{Dialect: sqldb.Postgres, Table: sqldb.Table{Name: "orders"}, Key: []string{"id"}}
//	created, err := orders.Create(ctx, tx, once.Row{"id": o.ID, "item": o.Item}, once.Into("number", &number))
//
// Apply a change once by its ID, where doing it twice would count twice:
//
//	changes := once.Table{Dialect: sqldb.Postgres, Table: sqldb.Table{Name: "stock_changes"}, Key: []string{"change_id"}}
//	applied, err := changes.Apply(ctx, tx, once.Row{"change_id": c.ID, "item": c.Item}, func() error {
//		_, err := tx.ExecContext(ctx, `UPDATE stock SET on_hand = on_hand + $1 WHERE item = $2`, c.Quantity, c.Item)
//		return err
//	})
//
// Which IDs are the same is the column's affair: unless told otherwise, MySQL and MariaDB
// pass over case and over blanks at the end, so that of two changes "a1" and "A1" the
// second is not applied. Give such a column a binary type, or COLLATE utf8mb4_bin, which
// passes over blanks only.
//
// Two that do it at the same time meet on the unique key: one of them waits until
// the other's transaction ends, and then finds the row, or makes it itself.
package once
