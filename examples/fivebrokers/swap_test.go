package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/internal/live"
	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

const (
	orders    = 40
	customers = 5
)

// One binary, built once, over every broker, with and without a database: the same
// inputs, many of them repeated, have the same effects. Only HAPAX_ variables change.
func TestOneServiceFiveBrokers(t *testing.T) {
	binary, sends := build(t), inputs()
	for _, rule := range dedup.Rules {
		for _, database := range []sqldb.Dialect{"", sqldb.SQLite, sqldb.Postgres, sqldb.MySQL} {
			name := rule.Broker
			if database != "" {
				name += " with " + string(database)
			}
			t.Run(name, func(t *testing.T) { swap(t, binary, rule.Broker, database, sends) })
		}
	}
}

// The control run: the same with deduplication off repeats effects, so that the test
// above would fail.
func TestWithoutDeduplicationEffectsRepeat(t *testing.T) {
	binary, sends := build(t), inputs()
	require.Greater(t, len(sends), orders+10, "some inputs are sent more than once")
	place := live.New(t, "sqlite", "orders", "shipments")
	here, err := os.Getwd()
	require.NoError(t, err)
	environ := place.With("HAPAX_DEDUP_STRATEGY", "none")
	service := live.Start(t, binary, here, environ)
	publish(t, filepath.Join(here, config.FileName), environ, sends)
	require.Len(t, place.AwaitRead(t, "shipments", len(sends)), len(sends))
	service.Stop(t)
}

func build(t *testing.T) (binary string) {
	binary = filepath.Join(t.TempDir(), "fivebrokers")
	output, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, string(output))
	return binary
}

// inputs are every order once in the order of its customer's numbers, and copies of
// some, each anywhere after the first.
func inputs() (sends []Order) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range orders {
		sends = append(sends, Order{ID: fmt.Sprintf("%03d", i), Customer: fmt.Sprint("customer-", i%customers)})
		for range random.IntN(3) {
			sends = append(sends, sends[random.IntN(len(sends))])
		}
	}
	return sends
}

func swap(t *testing.T, binary, broker string, database sqldb.Dialect, sends []Order) {
	place := live.New(t, broker, "orders", "shipments")
	place.KeepCopies(t, "shipments")
	environ, dsn := place.Environ, ""
	if database != "" {
		dsn = sqldbtest.New(t, database)
		environ = place.With("HAPAX_SQL_DSN", dsn)
		db := sqldbtest.Open(t, dsn, sqldb.Options{})
		_, err := db.ExecContext(t.Context(), `CREATE TABLE books (order_id VARCHAR(20), customer VARCHAR(20))`)
		require.NoError(t, err)
	}
	here, err := os.Getwd()
	require.NoError(t, err)
	service := live.Start(t, binary, here, environ)
	publish(t, filepath.Join(here, config.FileName), environ, sends)

	service.Await(t, func(count live.Counts) bool {
		seen := count["processed"] + count["duplicate"] + count["lost_race"]
		// A FIFO queue drops copies itself, within its five minutes.
		return count["processed"] >= orders && (seen >= len(sends) || broker == "sqs-fifo")
	})
	place.AwaitRead(t, "shipments", orders)
	require.Equal(t, orders, service.Counts()["processed"])
	service.Stop(t)

	shipped := map[string][]string{}
	for _, payload := range place.Read(t, "shipments") {
		var shipment Shipment
		require.NoError(t, json.Unmarshal(payload, &shipment))
		shipped[shipment.Customer] = append(shipped[shipment.Customer], shipment.OrderID)
	}
	if broker == "sqs" { // a standard queue has no order
		for _, ids := range shipped {
			slices.Sort(ids)
		}
	}
	require.Equal(t, expected(), shipped, "each order is shipped once, each customer's in order")
	if database != "" {
		require.Equal(t, expected(), books(t, dsn), "each order is booked once")
	}
}

// expected are the orders of each customer, in order.
func expected() map[string][]string {
	byCustomer := map[string][]string{}
	for i := range orders {
		customer := fmt.Sprint("customer-", i%customers)
		byCustomer[customer] = append(byCustomer[customer], fmt.Sprintf("%03d", i))
	}
	return byCustomer
}

// publish sends the inputs one by one, as a producer with the same settings would.
func publish(t *testing.T, file string, environ []string, sends []Order) {
	cfg, err := config.Load(file, environ)
	require.NoError(t, err)
	for _, variable := range environ { // the AWS client reads its own variables from the process
		if name, value, _ := strings.Cut(variable, "="); name == "AWS_ACCESS_KEY_ID" || name == "AWS_SECRET_ACCESS_KEY" {
			t.Setenv(name, value)
		}
	}
	producer, err := framework.New(context.WithoutCancel(t.Context()), cfg, framework.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	defer func() { require.NoError(t, producer.Close()) }()
	for _, order := range sends {
		payload, err := json.Marshal(order)
		require.NoError(t, err)
		event := message.NewMessage("", payload)
		event.Metadata.Set(dedup.MetaEventID, "order-"+order.ID)
		event.Metadata.Set(dedup.MetaKey, order.Customer)
		require.NoError(t, producer.Publisher().Publish("orders", event))
	}
}

// books reads the rows with a connection of its own.
func books(t *testing.T, dsn string) map[string][]string {
	db := sqldbtest.Open(t, dsn, sqldb.Options{})
	rows, err := db.QueryContext(t.Context(), `SELECT order_id, customer FROM books ORDER BY order_id`)
	require.NoError(t, err)
	defer rows.Close()
	found := map[string][]string{}
	for rows.Next() {
		var order, customer string
		require.NoError(t, rows.Scan(&order, &customer))
		found[customer] = append(found[customer], order)
	}
	require.NoError(t, rows.Err())
	return found
}
