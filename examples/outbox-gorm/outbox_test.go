// Package outboxgorm shows the outbox in a program that uses GORM.
package outboxgorm

import (
	"context"
	"fmt"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/schema"
	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

type Order struct {
	ID string `gorm:"primaryKey"`
}

// placeOrder stores an order and its event: both or none.
func placeOrder(ctx context.Context, db *gorm.DB, order Order) error {
	return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tx.Create(&order).Error; err != nil {
			return err
		}
		events, err := outbox.NewPublisher(ctx, tx.Statement.ConnPool, outbox.Config{})
		if err != nil {
			return err
		}
		return events.Publish("orders.created", message.NewMessage("order-"+order.ID, []byte(`{"id":"`+order.ID+`"}`)))
	})
}

func TestGORM(t *testing.T) {
	db := sqldbtest.Open(t, sqldbtest.New(t, sqldb.Postgres), sqldb.Options{})
	tables, err := schema.New(db, sqldb.Postgres, schema.Names{})
	require.NoError(t, err)
	_, err = tables.Up(t.Context())
	require.NoError(t, err)
	gdb, err := gorm.Open(postgres.New(postgres.Config{Conn: db}), &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	require.NoError(t, gdb.AutoMigrate(&Order{}))

	require.NoError(t, placeOrder(t.Context(), gdb, Order{ID: "1"}))
	require.Error(t, placeOrder(t.Context(), gdb, Order{ID: "1"}), "it exists")
	rows, err := db.Query(`SELECT topic, event_id, payload FROM hapax_outbox`)
	require.NoError(t, err)
	defer rows.Close()
	var found []string
	for rows.Next() {
		var topic, event, payload string
		require.NoError(t, rows.Scan(&topic, &event, &payload))
		found = append(found, fmt.Sprint(topic, " ", event, " ", payload))
	}
	require.NoError(t, rows.Err())
	require.Equal(t, []string{`orders.created order-1 {"id":"1"}`}, found)
}
