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
// Two that do it at the same time meet on the unique key: one of them waits until
// the other's transaction ends, and then finds the row, or makes it itself.
package once
