// Command pipeline is a shop: orders are fulfilled, which makes a parcel of each
// item, and parcels are shipped, which prints a label and keeps a row of it.
//
//	orders ──► Fulfil ──► shipping.requested ──► Ship ──► table shipments
//
// Each step takes effect once, whatever its producers, its broker and its crashes
// repeat. Both run in one process here; started with one handler each, and a name
// each, they are two services.
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"

	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/handlers"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// Order is what arrives on the topic orders.
type Order struct {
	ID    string   `json:"id"`
	Items []string `json:"items"`
}

// Parcel is what Fulfil asks Ship for.
type Parcel struct {
	OrderID string `json:"order_id"`
	Item    string `json:"item"`
}

// Fulfil makes a parcel of each item.
func Fulfil(ctx context.Context, order Order) error {
	if len(order.Items) == 0 {
		return handlers.Permanent(errors.New("the order has no items")) // to the topic orders.dead
	}
	for _, item := range order.Items {
		parcel := Parcel{OrderID: order.ID, Item: item}
		if err := handlers.Emit(ctx, "shipping.requested", parcel, handlers.Key(order.ID)); err != nil {
			return err
		}
	}
	return nil
}

// Ship prints a label, which is a number, and keeps a row of it.
func Ship(dialect sqldb.Dialect) func(context.Context, Parcel) error {
	insert := dialect.Rebind(`INSERT INTO shipments (label, order_id, item) SELECT count(*) + 1, ?, ? FROM shipments`)
	return func(ctx context.Context, parcel Parcel) error {
		tx, err := inbox.Tx(ctx)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, insert, parcel.OrderID, parcel.Item); err != nil {
			return fmt.Errorf("ship %s of order %s: %w", parcel.Item, parcel.OrderID, err)
		}
		return nil
	}
}

//go:embed schema.sql
var tables string

// register makes the shop's table, and says which function handles which topic.
func register(ctx context.Context, s *framework.Service) (err error) {
	db, dialect, err := framework.OpenDatabase(ctx, s.Config())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, tables); err != nil {
		return fmt.Errorf("make tables: %w", err)
	}
	framework.Handle(s, "orders", Fulfil)
	framework.Handle(s, "shipping.requested", Ship(dialect))
	return nil
}

func main() {
	framework.Main(func(s *framework.Service) {
		if err := register(context.Background(), s); err != nil {
			fmt.Fprintln(os.Stderr, "pipeline:", err)
			os.Exit(1)
		}
	})
}
