// Command fivebrokers is one service for five brokers: hapax.yaml, or HAPAX_BROKER,
// says which one it runs on, and nothing else changes. With a database (sql: in
// hapax.yaml) it also keeps books: a row for each shipment, in the transaction in
// which the order is marked as processed.
package main

import (
	"context"
	"fmt"

	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// Order is what arrives on the topic orders.
type Order struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
}

// Shipment is what leaves on the topic shipments.
type Shipment struct {
	OrderID  string `json:"order_id"`
	Customer string `json:"customer"`
}

// Ship ships an order.
func Ship(_ context.Context, order Order) (Shipment, error) {
	return Shipment{OrderID: order.ID, Customer: order.Customer}, nil
}

// ShipAndBook ships an order and keeps a row of it.
func ShipAndBook(dialect sqldb.Dialect) func(context.Context, Order) (Shipment, error) {
	insert := dialect.Rebind(`INSERT INTO books (order_id, customer) VALUES (?, ?)`)
	return func(ctx context.Context, order Order) (Shipment, error) {
		tx, err := inbox.Tx(ctx)
		if err != nil {
			return Shipment{}, err
		}
		if _, err := tx.ExecContext(ctx, insert, order.ID, order.Customer); err != nil {
			return Shipment{}, fmt.Errorf("book order %s: %w", order.ID, err)
		}
		return Ship(ctx, order)
	}
}

func main() {
	framework.Main(func(s *framework.Service) {
		ship := Ship
		if sql := s.Config().SQL; sql.Enabled() {
			ship = ShipAndBook(sqldb.Dialect(sql.DSN.Driver()))
		}
		framework.Handle(s, "orders", ship, framework.To("shipments"))
	})
}
