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
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
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

// stuck is a broker that is away for its publishers: they wait until it is back.
type stuck struct {
	adapters.Broker
	reached chan struct{}
	back    chan struct{}
}

func (b stuck) Publisher() message.Publisher { return stuckPublisher{b.Broker.Publisher(), b} }

type stuckPublisher struct {
	message.Publisher
	broker stuck
}

func (p stuckPublisher) Publish(topic string, messages ...*message.Message) error {
	select {
	case p.broker.reached <- struct{}{}:
	default:
	}
	<-p.broker.back
	return p.Publisher.Publish(topic, messages...)
}

// A service ends though its relay does not, and closes everything else.
func TestStoppingDoesNotWaitForARelayForEver(t *testing.T) {
	dsn := sqldbtest.New(t, sqldb.SQLite)
	service := newService(t, parse(t, fmt.Sprintf("sql: {dsn: %q}\nshutdown: {drain_timeout: 0s}\n", dsn)))
	away := stuck{service.Broker(), make(chan struct{}, 1), make(chan struct{})}
	defer close(away.back)
	framework.SetBroker(service, away)
	framework.Handle(service, "orders", func(_ context.Context, order Order) (Shipment, error) {
		return Shipment{OrderID: order.ID}, nil
	}, framework.To("shipments"))
	stop := start(t, service)
	payload := message.NewMessage("1", []byte(`{"id":"1"}`))
	require.NoError(t, away.Broker.Publisher().Publish("orders", payload))
	<-away.reached
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	select {
	case err := <-stopped:
		require.NoError(t, err)
	case <-time.After(30 * time.Second):
		t.Fatal("the service waits for its relay, which waits for the broker")
	}
	db := sqldbtest.Open(t, dsn, sqldb.Options{})
	require.Equal(t, 1, count(t, db, "hapax_outbox WHERE state = 0"), "to be published by another relay")
}

// A database that is away when the relay begins, though it was there a moment before, does
// not leave a service without one.
func TestARelayThatCouldNotBeginBeginsAgain(t *testing.T) {
	service := newService(t, parse(t, ""))
	defer func() { require.NoError(t, service.Close()) }()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		runs := 0
		framework.KeepRelaying(ctx, service, func(ctx context.Context) error {
			if runs++; runs < 3 {
				return errors.New("connection reset")
			}
			stop()
			return nil
		})
		require.Equal(t, 3, runs)
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
