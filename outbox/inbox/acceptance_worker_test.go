package inbox_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqlite"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/schema"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// The test binary is also the processes that the tests kill.
func TestMain(m *testing.M) {
	fault.ChildMain(map[string]func(context.Context, []string) int{"worker": workerMain})
	goleak.VerifyTestMain(m)
}

// worker is a process that makes a row and an output of each event: messages come
// from the embedded broker, and take effect in another database. It is its own
// argument.
type worker struct {
	Name, Folder, DSN string
	// Control: no deduplication; the row is written, then the message acknowledged.
	Control bool
	// Takes is how long the handler keeps its transaction.
	Takes time.Duration
}

const (
	workerTopic = "orders"
	workerLease = 500 * time.Millisecond
	idleTimeout = time.Second
)

func workerBroker(folder string) sqlite.Config {
	return sqlite.Config{
		Path: filepath.Join(folder, "broker.db"), Synchronous: sqldb.Normal, LeaseDuration: workerLease,
		Logger: slog.New(slog.DiscardHandler),
	}
}

func workerMain(ctx context.Context, args []string) int {
	var w worker
	err := json.Unmarshal([]byte(args[0]), &w)
	if err == nil {
		err = w.run(ctx)
	}
	if err != nil && ctx.Err() == nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func (w worker) run(ctx context.Context) (err error) {
	deliveries, err := effects.Open(ctx, filepath.Join(w.Folder, "deliveries.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, deliveries.Close()) }()
	db, dialect, err := sqldb.OpenWith(ctx, w.DSN, sqldb.Options{LockTimeout: 5 * time.Second, IdleInTransaction: idleTimeout, Isolation: "read-committed"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	opened, err := inbox.Open(ctx, inbox.Options{
		DB: db, Dialect: dialect, Table: schema.Names{}.InboxTable(), Outbox: storing{outbox.Config{Dialect: dialect}},
		Config: inbox.Config{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	broker, err := sqlite.Open(ctx, workerBroker(w.Folder))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	subscriber, err := broker.Subscriber(adapters.Subscription{
		Group: "shop", Window: 50, RedeliveryDelay: 5 * time.Millisecond, DrainTimeout: 10 * time.Second, MaxDeliveries: 1000,
	})
	if err != nil {
		return err
	}
	strategy := dedup.Strategy(opened.Strategy(broker.Publisher()))
	if w.Control {
		strategy = dedup.Plain{Publisher: &letters{}}
	}
	once, err := dedup.New(dedup.Config{Scope: dedup.Scope{Service: "shop", Handler: "ship"}, Strategy: strategy, InFlightWait: time.Second})
	if err != nil {
		return err
	}
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	router.AddHandler("ship", workerTopic, subscriber, "shipments", &letters{}, w.ship(db, dialect)).
		AddMiddleware(w.record(ctx, deliveries), once.Wrap)
	go func() { <-router.Running(); <-ctx.Done(); _ = router.Close() }() // closing one that starts would block both
	go func() { <-router.Running(); _ = fault.Ready(ctx) }()
	return router.Run(context.WithoutCancel(ctx))
}

// record notes every delivery, and tells the harness that work goes on.
func (w worker) record(ctx context.Context, deliveries *sql.DB) message.HandlerMiddleware {
	return func(handle message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			copied, err := strconv.Atoi(msg.Metadata.Get("copy"))
			if err == nil {
				err = effects.InsertDelivery(context.WithoutCancel(msg.Context()), deliveries, fault.Delivery{
					ID: msg.UUID, Copy: copied, Consumer: w.Name, Attempt: adapters.DeliveryFrom(msg.Context()).Attempt,
				})
			}
			if err != nil {
				return nil, err
			}
			_ = fault.Emit(ctx, "began")
			return handle(msg)
		}
	}
}

func (w worker) ship(db *sql.DB, dialect sqldb.Dialect) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		var event fault.Event
		if err := json.Unmarshal(msg.Payload, &event); err != nil {
			return nil, err
		}
		store := effects.Execer(db)
		if !w.Control {
			tx, err := inbox.Tx(msg.Context())
			if err != nil {
				return nil, err
			}
			store = tx
		}
		effect := fault.Effect{ID: event.ID, Key: event.Key, Seq: event.Seq, Consumer: w.Name}
		if err := effects.Insert(context.WithoutCancel(msg.Context()), rebinding{store, dialect}, effect); err != nil {
			return nil, err
		}
		<-time.After(w.Takes) // work that knows nothing of contexts
		output := message.NewMessage("", msg.Payload)
		output.Metadata.Set(dedup.MetaTopic, "shipments")
		return message.Messages{output}, nil
	}
}

// rebinding writes a dialect's placeholders.
type rebinding struct {
	effects.Execer
	dialect sqldb.Dialect
}

func (r rebinding) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return r.Execer.ExecContext(ctx, r.dialect.Rebind(query), args...)
}
