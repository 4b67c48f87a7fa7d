package main

import (
	"context"
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

// Ten kettles come in, as two events with one change's ID; two orders take some
// out, each sent twice, and once under another event ID; one order's number comes
// again for another item.
func Example() {
	folder, err := os.MkdirTemp("", "inventory-")
	check(err)
	defer os.RemoveAll(folder)
	cfg, err := config.Load(config.FileName, []string{
		"HAPAX_SQLITE_PATH=" + filepath.Join(folder, "hapax.db"),
		"HAPAX_SQL_DSN=file:" + filepath.Join(folder, "inventory.db"), "HAPAX_ADMIN_ENABLED=false",
	})
	check(err)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	service, err := framework.New(ctx, cfg, framework.WithLogger(slog.New(slog.DiscardHandler)))
	check(err)
	check(register(ctx, service))
	db, _, err := framework.OpenDatabase(ctx, cfg)
	check(err)
	defer db.Close()
	_, err = db.ExecContext(ctx, `INSERT INTO stock VALUES ('kettle', 0)`)
	check(err)

	send := func(topic, eventID string, value any) {
		payload, err := json.Marshal(value)
		check(err)
		event := message.NewMessage("", payload)
		event.Metadata.Set(dedup.MetaEventID, eventID)
		event.Metadata.Set(dedup.MetaKey, "kettle")
		check(service.Publisher().Publish(topic, event))
	}
	delivery := Change{ID: "delivery 17", Item: "kettle", Quantity: 10}
	send("stock.changes", "from the scanner", delivery)
	send("stock.changes", "from the scanner", delivery)
	send("stock.changes", "typed in by hand", delivery)
	for _, eventID := range []string{"web-1", "web-1", "web-1 again"} {
		send("orders", eventID, Order{Number: "1", Item: "kettle", Quantity: 2})
	}
	for _, eventID := range []string{"web-2", "web-2"} {
		send("orders", eventID, Order{Number: "2", Item: "kettle", Quantity: 1})
	}
	send("orders", "web-3", Order{Number: "1", Item: "cup", Quantity: 1})

	ran := make(chan error, 1)
	go func() { ran <- service.Run(ctx) }()
	broker := service.Broker().(*sqlite.Broker)
	for {
		var changes, dead int
		check(db.QueryRowContext(ctx, `SELECT count(*) FROM stock_changes`).Scan(&changes))
		check(broker.DB().QueryRowContext(ctx, `SELECT count(*) FROM hapax_log WHERE topic = 'orders.dead'`).Scan(&dead))
		groups, err := broker.Stats(ctx)
		check(err)
		waiting := int64(0)
		for _, group := range groups {
			waiting += int64(group.Backlog) + int64(group.Pending)
		}
		if changes >= 3 && dead >= 1 && waiting == 0 {
			break
		}
		select {
		case err := <-ran:
			log.Panic(err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	stop()
	check(<-ran)

	ctx = context.Background()
	rows, err := db.QueryContext(ctx, `SELECT change_id, quantity FROM stock_changes ORDER BY change_id`)
	check(err)
	defer rows.Close()
	for rows.Next() {
		var id string
		var quantity int
		check(rows.Scan(&id, &quantity))
		fmt.Printf("%s: %+d\n", id, quantity)
	}
	check(rows.Err())
	var orders, onHand int
	check(db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM orders), on_hand FROM stock`).Scan(&orders, &onHand))
	fmt.Println(orders, "orders,", onHand, "kettles on hand")

	// Output:
	// delivery 17: +10
	// order 1: -2
	// order 2: -1
	// 2 orders, 7 kettles on hand
}

func check(err error) {
	if err != nil {
		log.Panic(err)
	}
}
