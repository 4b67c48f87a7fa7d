package rabbitmq_test

import (
	"cmp"
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
	// Heartbeat of the connections. Zero: 2s.
	Heartbeat time.Duration
	// Window of each stage. Zero: 100.
	Window int
	// Takes is the working time of the first stage's handler; with Slow, only of so
	// many.
	Takes time.Duration
	Slow  int64
	// Waits: the first stage's handler works until the run releases it.
	Waits bool
	// Deaf: the renewals of leases go nowhere, and nobody notices.
	Deaf bool
	// FailAttempts is how often the first stage's handler fails on a message.
	FailAttempts int
	// FailPublishes is how many publishes of outputs are refused.
	FailPublishes int64
	// RelayOnly: the process has no second stage.
	RelayOnly bool
}

func (w workerSettings) config() rabbitmq.Config {
	return rabbitmq.Config{
		URL: w.URL, SingleActiveConsumer: w.Single, Heartbeat: cmp.Or(w.Heartbeat, 2*time.Second),
		Logger: slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelError})),
	}
}

func (w workerSettings) stages() (in, out string) { return w.Topic, w.Topic + ".out" }

const (
	relayGroup = "relay"
	bookGroup  = "book"
	metaCopy   = "copy"  // which of the producer's copies an event is
	metaRelay  = "relay" // the process that an output is of
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
	books, err := openBooks(ctx, w.Folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, books.Close()) }()
	broker, err := rabbitmq.Open(ctx, w.config())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
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
	router.AddHandler(relayGroup, in, relays, out, broker.Publisher(), w.relay(ctx)).AddMiddleware(w.record(ctx), middleware.Wrap)
	if !w.RelayOnly {
		bookings, err := w.subscribe(broker, bookGroup)
		if err != nil {
			return err
		}
		router.AddConsumerHandler(bookGroup, out, bookings, w.book(books))
	}
	go func() { <-router.Running(); <-ctx.Done(); _ = router.Close() }() // closing one that starts would block both
	go func() { <-router.Running(); _ = fault.Ready(ctx) }()
	return router.Run(context.WithoutCancel(ctx))
}

// openBooks opens the effects that all processes share. One connection a process:
// SQLite lets writers wait by sleeping, so a hundred that wait for each other hold
// everything up.
func openBooks(ctx context.Context, folder string) (*sql.DB, error) {
	books, err := effects.Open(ctx, filepath.Join(folder, "books"))
	if err != nil {
		return nil, err
	}
	books.SetMaxOpenConns(1)
	if _, err := books.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS booked (id TEXT PRIMARY KEY) WITHOUT ROWID"); err != nil {
		return nil, errors.Join(err, books.Close())
	}
	return books, nil
}

func (w workerSettings) subscribe(broker *rabbitmq.Broker, group string) (message.Subscriber, error) {
	return broker.Subscriber(adapters.Subscription{
		Group: group, Window: cmp.Or(w.Window, 100), RedeliveryDelay: 50 * time.Millisecond, DrainTimeout: 10 * time.Second,
	})
}

// strategy is that of the first stage.
func (w workerSettings) strategy(ctx context.Context, broker *rabbitmq.Broker) (dedup.Strategy, func(), error) {
	publisher := &refusing{Publisher: broker.Publisher()}
	publisher.left.Store(w.FailPublishes)
	if w.Plain {
		return dedup.Plain{Publisher: publisher}, func() {}, nil
	}
	ledger, closeStore, err := w.openLedger(ctx)
	if err != nil {
		return nil, nil, err
	}
	if w.Deaf {
		ledger = deaf{ledger}
	}
	strategy := dedup.NewLedgerStrategy(ledger, publisher, dedup.LedgerOptions{Lease: cmp.Or(w.Lease, 2*time.Second), Logger: slog.New(slog.DiscardHandler)})
	return strategy, func() { _, _ = strategy.Close(), ledger.Close(); closeStore() }, nil
}
