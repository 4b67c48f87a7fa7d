package rabbitmq_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/rabbitmq"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
)

// workerSettings are a consumer process's arguments, as JSON.
type workerSettings struct {
	URL, Topic, Folder, Name string
	// Plain: no deduplication in either stage.
	Plain bool
	// Single: one active consumer a queue, for order across processes.
	Single bool
	// Ledger is the URL of the first stage's ledger. Empty: a SQLite file.
	Ledger string
	// Lease of the first stage. Zero: 2s.
	Lease time.Duration
}

func (w workerSettings) config() rabbitmq.Config {
	return rabbitmq.Config{
		URL: w.URL, SingleActiveConsumer: w.Single, Heartbeat: 2 * time.Second,
		Logger: slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelError})),
	}
}

func (w workerSettings) stages() (in, out string) { return w.Topic, w.Topic + ".out" }

const (
	relayGroup = "relay"
	bookGroup  = "book"
	metaCopy   = "copy"
)

// worker is one consumer process. Its first stage turns each event into an
// output, with message-id over a ledger that all processes share; the second books
// the outputs, one row an event ID.
func worker(ctx context.Context, args []string) int {
	var w workerSettings
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

func (w workerSettings) run(ctx context.Context) (err error) {
	books, err := effects.Open(ctx, filepath.Join(w.Folder, "books"))
	if err != nil {
		return err
	}
	tried, err := effects.Open(ctx, filepath.Join(w.Folder, "tried"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, books.Close(), tried.Close()) }()
	broker, err := rabbitmq.Open(ctx, w.config())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	if _, err := books.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS booked (id TEXT PRIMARY KEY) WITHOUT ROWID"); err != nil {
		return err
	}
	strategy, closeStore, err := w.strategy(ctx, broker)
	if err != nil {
		return err
	}
	defer closeStore()
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 20 * time.Second}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	in, out := w.stages()
	relays, err := w.subscribe(broker, relayGroup)
	if err != nil {
		return err
	}
	middleware, err := dedup.New(dedup.Config{Scope: dedup.Scope{Service: w.Topic, Handler: relayGroup}, Strategy: strategy, InFlightWait: time.Second})
	if err != nil {
		return err
	}
	router.AddHandler(relayGroup, in, relays, out, broker.Publisher(), w.relay(tried)).AddMiddleware(middleware.Wrap)
	bookings, err := w.subscribe(broker, bookGroup)
	if err != nil {
		return err
	}
	router.AddConsumerHandler(bookGroup, out, bookings, w.book(books))
	go func() { <-ctx.Done(); _ = router.Close() }()
	go func() { <-router.Running(); _ = fault.Ready(ctx) }()
	return router.Run(context.WithoutCancel(ctx))
}

func (w workerSettings) subscribe(broker *rabbitmq.Broker, group string) (message.Subscriber, error) {
	return broker.Subscriber(adapters.Subscription{Group: group, Window: 100, RedeliveryDelay: 50 * time.Millisecond, DrainTimeout: 10 * time.Second})
}

// strategy is that of the first stage.
func (w workerSettings) strategy(ctx context.Context, broker *rabbitmq.Broker) (dedup.Strategy, func(), error) {
	if w.Plain {
		return dedup.Plain{Publisher: broker.Publisher()}, func() {}, nil
	}
	ledger, closeStore, err := w.openLedger(ctx)
	if err != nil {
		return nil, nil, err
	}
	strategy := dedup.NewLedgerStrategy(ledger, broker.Publisher(), dedup.LedgerOptions{Lease: w.lease(), Logger: slog.New(slog.DiscardHandler)})
	return strategy, func() { _, _ = strategy.Close(), ledger.Close(); closeStore() }, nil
}

func (w workerSettings) relay(tried *sql.DB) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		var event fault.Event
		if err := json.Unmarshal(msg.Payload, &event); err != nil {
			return nil, err
		}
		delivery := fault.Delivery{ID: event.ID, Consumer: w.Name, Attempt: adapters.DeliveryFrom(msg.Context()).Attempt}
		_, _ = fmt.Sscan(msg.Metadata.Get(metaCopy), &delivery.Copy)
		if err := effects.InsertDelivery(msg.Context(), tried, delivery); err != nil {
			return nil, err
		}
		return []*message.Message{message.NewMessage(event.ID, msg.Payload)}, nil
	}
}

// book counts what came out of the first stage: a row for every event ID, so that
// only an output with another ID than its first copy's counts twice.
func (w workerSettings) book(books *sql.DB) message.NoPublishHandlerFunc {
	return func(msg *message.Message) (err error) {
		var event fault.Event
		if err := json.Unmarshal(msg.Payload, &event); err != nil {
			return err
		}
		effect := fault.Effect{ID: event.ID, Key: event.Key, Seq: event.Seq, Consumer: w.Name}
		if w.Plain {
			return effects.Insert(msg.Context(), books, effect)
		}
		ctx := msg.Context()
		tx, err := books.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		marked, err := tx.ExecContext(ctx, "INSERT INTO booked (id) VALUES (?) ON CONFLICT DO NOTHING", msg.Metadata.Get(dedup.MetaEventID))
		if err != nil {
			return err
		}
		if rows, err := marked.RowsAffected(); err != nil || rows == 0 {
			return err
		}
		if err := effects.Insert(ctx, tx, effect); err != nil {
			return err
		}
		return tx.Commit()
	}
}
