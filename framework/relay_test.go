package framework_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

// ship writes an effect and returns an output; it fails the first time.
func ship(runs *counter) func(context.Context, Order) (Shipment, error) {
	return func(ctx context.Context, order Order) (Shipment, error) {
		tx, err := inbox.Tx(ctx)
		if err != nil {
			return Shipment{}, err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO shipped (id) VALUES ('"+order.ID+"')"); err != nil {
			return Shipment{}, err
		}
		if runs.add(order.ID) == 1 {
			return Shipment{}, errors.New("not the first time")
		}
		return Shipment{OrderID: order.ID}, nil
	}
}

func count(t *testing.T, db *sql.DB, table string) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRow("SELECT count(*) FROM "+table).Scan(&n))
	return n
}

func TestOutputsLeaveWithTheTransaction(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, _ sqldb.Dialect, dsn string) {
		db := sqldbtest.Open(t, dsn, sqldb.Options{})
		_, err := db.Exec("CREATE TABLE shipped (id VARCHAR(50) PRIMARY KEY)")
		require.NoError(t, err)
		cfg := parse(t, fmt.Sprintf("sql: {dsn: %q, outbox: {retention: 0}}\ntopics: {shipments: {name: shipments.v2}, shipments.v2: {name: shipments.v3}}\n", dsn))
		service := newService(t, cfg)
		runs := &counter{}
		framework.Handle(service, "orders", ship(runs), framework.To("shipments"))
		stop := start(t, service)
		for i := range 20 {
			id := fmt.Sprint(i)
			publish(t, service, "orders", id, Order{ID: id})
			publish(t, service, "orders", id, Order{ID: id})
		}
		shipped := map[string]bool{}
		for _, msg := range read(t, service, "shipments.v2", 20) {
			shipped[msg.Metadata.Get(dedup.MetaEventID)] = true
			require.NotEmpty(t, msg.Metadata.Get(dedup.MetaCause))
		}
		require.Len(t, shipped, 20)
		require.Equal(t, 20, count(t, db, "shipped"))
		require.Eventually(t, func() bool { return count(t, db, "hapax_outbox") == 0 }, 10*time.Second, 5*time.Millisecond)
		metrics := scrape(service)
		for _, line := range []string{"hapax_outbox_rows 0", "hapax_relay_published_total 20", "hapax_relay_shards 32", "hapax_outbox_parked_rows 0", "hapax_relay_waits 0"} {
			require.Contains(t, metrics, line)
		}
		require.NoError(t, stop())
	})
}

// scrape is what a service's admin server answers.
func scrape(service *framework.Service) string {
	recorder := httptest.NewRecorder()
	framework.AdminHandler(service).ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	text, _ := io.ReadAll(recorder.Body)
	return string(text)
}

// A relay in a process of its own: the service has none, and another program
// writes to the outbox too.
func TestRunRelay(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, dialect sqldb.Dialect, dsn string) {
		db := sqldbtest.Open(t, dsn, sqldb.Options{})
		cfg := parse(t, fmt.Sprintf("sql: {dsn: %q, outbox: {relay: false}}\ntopics: {shipments: {name: shipments.v2}}\n", dsn))
		service := newService(t, cfg)
		framework.Handle(service, "orders", func(_ context.Context, order Order) (Shipment, error) {
			return Shipment{OrderID: order.ID}, nil
		}, framework.To("shipments"))
		stop := start(t, service)
		publish(t, service, "orders", "1", Order{ID: "1"})
		require.Eventually(t, func() bool { return count(t, db, "hapax_outbox") == 1 }, 20*time.Second, 5*time.Millisecond)
		tx, err := db.Begin()
		require.NoError(t, err)
		events, err := outbox.NewPublisher(t.Context(), tx, outbox.Config{Dialect: dialect})
		require.NoError(t, err)
		require.NoError(t, events.Publish("shipments", message.NewMessage("theirs", []byte(`{"order_id":"2"}`))))
		require.NoError(t, tx.Commit())

		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- framework.RunRelay(ctx, cfg, framework.WithLogger(slog.New(slog.DiscardHandler))) }()
		found := map[string]bool{}
		for _, msg := range read(t, service, "shipments.v2", 2) {
			found[string(msg.Payload)] = true
		}
		require.Equal(t, map[string]bool{`{"order_id":"1"}`: true, `{"order_id":"2"}`: true}, found)
		cancel()
		require.NoError(t, <-ran)
		require.Equal(t, 2, count(t, db, "hapax_outbox WHERE state = 1"), "kept for sql.outbox.retention")
		require.NoError(t, stop())
	})
}

// A relay that is told to stop while it starts has done as it was told.
func TestRunRelayStoppedWhileStarting(t *testing.T) {
	stopped, stop := context.WithCancel(t.Context())
	stop()
	cfg := parse(t, fmt.Sprintf("sql: {dsn: %q}\n", "file:"+t.TempDir()+"/outbox.db"))
	require.NoError(t, framework.RunRelay(stopped, cfg, framework.WithLogger(slog.New(slog.DiscardHandler))))
}

func TestRunRelaySaysWhatIsMissing(t *testing.T) {
	quiet := framework.WithLogger(slog.New(slog.DiscardHandler))
	err := framework.RunRelay(t.Context(), parse(t, ""), quiet)
	require.ErrorContains(t, err, "add dsn")
	dsn := sqldbtest.New(t, sqldb.SQLite)
	err = framework.RunRelay(t.Context(), parse(t, fmt.Sprintf("sql: {dsn: %q, migrate: check}\n", dsn)), quiet)
	require.ErrorContains(t, err, "hapax migrate up")
}
