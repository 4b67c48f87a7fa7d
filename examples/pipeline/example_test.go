package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters/sqlite"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
)

// Three orders, of which the producer repeats two because it got no answer. One has
// no items.
func Example() {
	folder, err := os.MkdirTemp("", "pipeline-")
	check(err)
	defer os.RemoveAll(folder)
	shop := filepath.Join(folder, "shop.db")
	cfg, err := config.Load(config.FileName, []string{
		"HAPAX_SQLITE_PATH=" + filepath.Join(folder, "hapax.db"), "HAPAX_SQL_DSN=file:" + shop, "HAPAX_ADMIN_ENABLED=false",
	})
	check(err)
	ctx, stop := context.WithCancel(context.Background())
	service, err := framework.New(ctx, cfg, framework.WithLogger(slog.New(slog.DiscardHandler)))
	check(err)
	check(register(ctx, service))

	for _, order := range []Order{
		{"order-1", []string{"kettle", "cup"}}, {"order-1", []string{"kettle", "cup"}},
		{"order-2", nil},
		{"order-3", []string{"book"}}, {"order-3", []string{"book"}}, {"order-3", []string{"book"}},
	} {
		payload, err := json.Marshal(order)
		check(err)
		event := message.NewMessage("", payload)
		event.Metadata.Set(dedup.MetaEventID, order.ID)
		event.Metadata.Set(dedup.MetaKey, "a customer")
		check(service.Publisher().Publish("orders", event))
		fmt.Println("sent", order.ID)
	}

	ran := make(chan error, 1)
	go func() { ran <- service.Run(ctx) }()
	select {
	case <-service.Router().Running():
	case err := <-ran:
		log.Panic(err)
	}
	db, _, err := framework.OpenDatabase(ctx, cfg)
	check(err)
	defer db.Close()
	broker := service.Broker().(*sqlite.Broker)
	for !drained(ctx, broker, db) {
		time.Sleep(10 * time.Millisecond)
	}
	report(ctx, broker, db)
	stop()
	check(<-ran)

	// Output:
	// sent order-1
	// sent order-1
	// sent order-2
	// sent order-3
	// sent order-3
	// sent order-3
	// on the topic orders: 6 messages
	// on the topic shipping.requested: 3 messages
	// on the topic orders.dead: 1 messages
	// label: cup of order-1
	// label: kettle of order-1
	// label: book of order-3
}

// drained reports whether nothing is left to do: on the topics, with the handlers,
// in the outbox.
func drained(ctx context.Context, broker *sqlite.Broker, db *sql.DB) bool {
	var parcels int
	check(db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM shipments) - (SELECT count(*) FROM hapax_outbox WHERE state = 0)`).Scan(&parcels))
	groups, err := broker.Stats(ctx)
	check(err)
	for _, group := range groups {
		if group.Backlog+group.Pending > 0 {
			return false
		}
	}
	return parcels >= 3
}

func report(ctx context.Context, broker *sqlite.Broker, db *sql.DB) {
	for _, topic := range []string{"orders", "shipping.requested", "orders.dead"} {
		var count int
		check(broker.DB().QueryRowContext(ctx, `SELECT count(*) FROM hapax_log WHERE topic = ?`, topic).Scan(&count))
		fmt.Printf("on the topic %s: %d messages\n", topic, count)
	}
	rows, err := db.QueryContext(ctx, `SELECT order_id, item FROM shipments ORDER BY order_id, item`)
	check(err)
	defer rows.Close()
	for rows.Next() {
		var order, item string
		check(rows.Scan(&order, &item))
		fmt.Printf("label: %s of %s\n", item, order)
	}
	check(rows.Err())
}

func check(err error) {
	if err != nil {
		log.Panic(err)
	}
}
