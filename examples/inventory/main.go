// Command inventory keeps the stock of a shop.
//
//	orders ──► PlaceOrder ──► stock.changes ──► ApplyChange ──► table stock
//	                              ▲
//	              the warehouse, people, imports
//
// Hapax makes each event take effect once. But one change may come as several
// events: a person files the correction that the scanner has sent already, an
// import is started twice. So a change has an ID of its own, and is applied once by
// that, whatever brings it; and an order is created once by its number.
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/handlers"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/once"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// Order is what arrives on the topic orders.
type Order struct {
	Number   string `json:"number"`
	Item     string `json:"item"`
	Quantity int    `json:"quantity"`
}

// Change is what arrives on the topic stock.changes.
type Change struct {
	ID       string `json:"id"`
	Item     string `json:"item"`
	Quantity int    `json:"quantity"` // less than 0: taken out
}

// Inventory is the tables of a database.
type Inventory struct {
	dialect         sqldb.Dialect
	orders, changes once.Table
}

// NewInventory is the inventory of a database of that dialect.
func NewInventory(dialect sqldb.Dialect) Inventory {
	return Inventory{
		dialect: dialect,
		orders:  once.Table{Dialect: dialect, Table: sqldb.Table{Name: "orders"}, Key: []string{"number"}},
		changes: once.Table{Dialect: dialect, Table: sqldb.Table{Name: "stock_changes"}, Key: []string{"change_id"}},
	}
}

// PlaceOrder creates an order, once, and has its items taken out.
func (i Inventory) PlaceOrder(ctx context.Context, order Order) error {
	tx, err := inbox.Tx(ctx)
	if err != nil {
		return err
	}
	var item string
	created, err := i.orders.Create(ctx, tx,
		once.Row{"number": order.Number, "item": order.Item, "quantity": order.Quantity}, once.Into("item", &item))
	switch {
	case err != nil:
		return err
	case item != order.Item:
		return handlers.Permanent(fmt.Errorf("order %s is for %s, and there is one of that number for %s", order.Number, order.Item, item))
	case !created:
		return handlers.Skip("order " + order.Number + " was placed before")
	}
	change := Change{ID: "order " + order.Number, Item: order.Item, Quantity: -order.Quantity}
	return handlers.Emit(ctx, "stock.changes", change, handlers.Key(order.Item))
}

// ApplyChange changes the stock, once for a change's ID.
func (i Inventory) ApplyChange(ctx context.Context, change Change) error {
	tx, err := inbox.Tx(ctx)
	if err != nil {
		return err
	}
	applied, err := i.changes.Apply(ctx, tx, once.Row{"change_id": change.ID, "item": change.Item, "quantity": change.Quantity}, func() error {
		_, err := tx.ExecContext(ctx, i.dialect.Rebind(`UPDATE stock SET on_hand = on_hand + ? WHERE item = ?`), change.Quantity, change.Item)
		return err
	})
	if err == nil && !applied {
		err = handlers.Skip("change " + change.ID + " was applied before")
	}
	return err
}

//go:embed schema.sql
var tables string

// register makes the tables, and says which function handles which topic.
func register(ctx context.Context, s *framework.Service) (err error) {
	db, dialect, err := framework.OpenDatabase(ctx, s.Config())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for statement := range strings.SplitSeq(tables, ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("make tables: %w", err)
		}
	}
	inventory := NewInventory(dialect)
	framework.Handle(s, "orders", inventory.PlaceOrder)
	framework.Handle(s, "stock.changes", inventory.ApplyChange)
	return nil
}

func main() {
	framework.Main(func(s *framework.Service) {
		if err := register(context.Background(), s); err != nil {
			fmt.Fprintln(os.Stderr, "inventory:", err)
			os.Exit(1)
		}
	})
}
