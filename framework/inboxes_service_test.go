package framework_test

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/handlers"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

// The same handlers with sql: set, on every database: rows, marks and outputs, which
// leave through the outbox.
func TestAServiceWithSQL(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, dialect sqldb.Dialect, dsn string) {
		db := sqldbtest.Open(t, dsn, sqldb.Options{})
		_, err := db.Exec(`CREATE TABLE charges (order_id varchar(50) NOT NULL)`)
		require.NoError(t, err)
		service := newService(t, parse(t, "sql: {dsn: \""+dsn+"\", inbox: {table: seen}}\n"))
		framework.Handle(service, "orders", func(ctx context.Context, order Order) (Shipment, error) {
			tx, err := inbox.Tx(ctx)
			if err != nil {
				return Shipment{}, err
			}
			_, err = tx.ExecContext(ctx, dialect.Rebind(`INSERT INTO charges VALUES (?)`), order.ID)
			return Shipment{OrderID: order.ID}, err
		}, framework.To("shipments"))
		for _, id := range []string{"1", "1", "2", "1"} {
			publish(t, service, "orders", id, Order{ID: id})
		}
		stop := start(t, service)
		read(t, service, "shipments", 2)
		require.Eventually(t, func() bool {
			var charges, marks int
			require.NoError(t, db.QueryRow(`SELECT (SELECT count(*) FROM charges), (SELECT count(*) FROM seen)`).Scan(&charges, &marks))
			return charges == 2 && marks == 2
		}, patience, patience/1000)
		require.NoError(t, stop())
	})
}

// An output to a topic that no outbox takes is its own event's fault: it alone goes to
// the dead letters, and what shares its transaction takes effect.
func TestABadTopicIsNobodyElsesFault(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, dialect sqldb.Dialect, dsn string) {
		const events = 60
		db := sqldbtest.Open(t, dsn, sqldb.Options{})
		_, err := db.Exec(`CREATE TABLE charges (order_id varchar(50) NOT NULL)`)
		require.NoError(t, err)
		service := newService(t, parse(t, "sql: {dsn: \""+dsn+"\"}\n"))
		framework.Handle(service, "orders", func(ctx context.Context, order Order) error {
			tx, err := inbox.Tx(ctx)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, dialect.Rebind(`INSERT INTO charges VALUES (?)`), order.ID); err != nil {
				return err
			}
			topic := "tenant.a"
			if order.ID == "30" {
				topic = "tenant." + strings.Repeat("x", 300)
			}
			return handlers.Emit(ctx, topic, Shipment{OrderID: order.ID})
		})
		for i := range events {
			publish(t, service, "orders", strconv.Itoa(i), Order{ID: strconv.Itoa(i)})
		}
		stop := start(t, service)
		letter := read(t, service, "orders.dead", 1)[0]
		require.Equal(t, "30", letter.Metadata.Get(dedup.MetaEventID))
		require.Equal(t, handlers.ReasonBadOutput, letter.Metadata.Get(dedup.MetaDeadReason))
		require.Contains(t, letter.Metadata.Get(dedup.MetaDeadError), "expected at most 255 bytes of UTF-8 without NUL")
		require.Eventually(t, func() bool {
			var charges, all int
			require.NoError(t, db.QueryRow(`SELECT count(DISTINCT order_id), count(*) FROM charges`).Scan(&charges, &all))
			return charges == events-1 && all == charges
		}, patience, patience/1000)
		require.NoError(t, stop())
	})
}

// Scenario 17: a service whose user may not create tables says what to run.
func TestAServiceWithoutItsTables(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, _ sqldb.Dialect, dsn string) {
		service := newService(t, parse(t, "sql: {dsn: \""+dsn+"\", migrate: check}\n"))
		framework.Handle(service, "orders", func(context.Context, Order) error { return nil })
		err := service.Run(t.Context())
		require.ErrorContains(t, err, "sql.dsn: the database schema is not current")
		require.ErrorContains(t, err, "run `hapax migrate up`")
	})
}

// What only COMMIT finds wrong with a handler's rows is the event's fault, and no outage: it
// ends in the dead letters.
func TestWhatCommitRefusesIsDeadLettered(t *testing.T) {
	refused := func(t *testing.T, service *framework.Service, db *sql.DB) {
		_, err := db.Exec("CREATE TABLE parents (name VARCHAR(50) PRIMARY KEY)")
		require.NoError(t, err)
		_, err = db.Exec("CREATE TABLE children (parent VARCHAR(50) REFERENCES parents (name) DEFERRABLE INITIALLY DEFERRED)")
		require.NoError(t, err)
		framework.Handle(service, "orders", func(ctx context.Context, order Order) error {
			tx, err := inbox.Tx(ctx)
			if err != nil {
				return err
			}
			_, err = tx.ExecContext(ctx, "INSERT INTO children VALUES ('nobody')")
			return err
		})
		reasons := make(chan string, 1)
		framework.Handle(service, "orders.dead", func(letter *message.Message) error {
			select {
			case reasons <- letter.Metadata.Get(dedup.MetaDeadReason):
			default: // again
			}
			return nil
		})
		stop := start(t, service)
		publish(t, service, "orders", "1", Order{ID: "1"})
		select {
		case reason := <-reasons:
			require.Equal(t, handlers.ReasonExhausted, reason)
		case <-time.After(patience):
			require.Fail(t, "no dead letter")
		}
		require.Zero(t, count(t, db, "children"))
		require.NoError(t, stop())
	}
	t.Run("embedded", func(t *testing.T) {
		service := newService(t, parse(t, ""))
		refused(t, service, sqliteDB(t, service))
	})
	for _, dialect := range []sqldb.Dialect{sqldb.SQLite, sqldb.Postgres} { // MySQL defers no constraint
		t.Run(string(dialect), func(t *testing.T) {
			dsn := sqldbtest.New(t, dialect)
			refused(t, newService(t, parse(t, fmt.Sprintf("sql: {dsn: %q}\n", dsn))), sqldbtest.Open(t, dsn, sqldb.Options{}))
		})
	}
}
