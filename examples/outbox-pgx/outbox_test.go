// Package outboxpgx shows the outbox in a program that uses pgx.
package outboxpgx

import (
	"context"
	"fmt"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/schema"
	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/pgxtx"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

// placeOrder stores an order and its event: both or none.
func placeOrder(ctx context.Context, conn *pgx.Conn, id string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO orders (id) VALUES ($1)`, id); err != nil {
			return err
		}
		events, err := outbox.NewPublisher(ctx, pgxtx.Wrap(tx), outbox.Config{})
		if err != nil {
			return err
		}
		return events.Publish("orders.created", message.NewMessage("order-"+id, []byte(`{"id":"`+id+`"}`)))
	})
}

func TestPgx(t *testing.T) {
	dsn := sqldbtest.New(t, sqldb.Postgres)
	db := sqldbtest.Open(t, dsn, sqldb.Options{})
	tables, err := schema.New(db, sqldb.Postgres, schema.Names{})
	require.NoError(t, err)
	_, err = tables.Up(t.Context())
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), `CREATE TABLE orders (id text PRIMARY KEY)`)
	require.NoError(t, err)

	require.NoError(t, placeOrder(t.Context(), conn, "1"))
	require.Error(t, placeOrder(t.Context(), conn, "1"), "it exists")
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
