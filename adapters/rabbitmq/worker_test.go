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
	"github.com/hapax-go/hapax/dedup/ledger/coalesce"
	sqliteledger "github.com/hapax-go/hapax/dedup/ledger/sqlite"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// workerSettings are a consumer process's arguments, as JSON.
type workerSettings struct {
	URL, Topic, Folder, Name string
	// Plain: no deduplication in either stage.
	Plain bool
	// Single: one active consumer a queue, for order across processes.
	Single bool
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
// output, with message-id over a ledger in a file that all processes share; the
// second books the output as a row, in the transaction of the mark.
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
	relay, book, closeStores, err := w.strategies(ctx, broker)
	if err != nil {
		return err
	}
	defer closeStores()
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 20 * time.Second}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	in, out := w.stages()
	for _, stage := range []struct {
		group, topic string
		strategy     dedup.Strategy
		handle       message.HandlerFunc
	}{
		{relayGroup, in, relay, w.relay(tried)},
		{bookGroup, out, book, w.book(books)},
	} {
		subscriber, err := broker.Subscriber(adapters.Subscription{Group: stage.group, Window: 100, MaxDeliveries: 200, RedeliveryDelay: 50 * time.Millisecond, DrainTimeout: 10 * time.Second})
		if err != nil {
			return err
		}
		scope := dedup.Scope{Service: "test", Handler: stage.group}
		middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: stage.strategy, InFlightWait: time.Second})
		if err != nil {
			return err
		}
		router.AddHandler(stage.group, stage.topic, subscriber, out, broker.Publisher(), stage.handle).AddMiddleware(middleware.Wrap)
	}
	go func() { <-ctx.Done(); _ = router.Close() }()
	go func() { <-router.Running(); _ = fault.Ready(ctx) }()
	return router.Run(context.WithoutCancel(ctx))
}

// strategies are those of the two stages.
func (w workerSettings) strategies(ctx context.Context, broker *rabbitmq.Broker) (relay, book dedup.Strategy, closeAll func(), err error) {
	if w.Plain {
		plain := dedup.Plain{Publisher: broker.Publisher()}
		return plain, plain, func() {}, nil
	}
	marks, _, err := sqldb.Open(ctx, filepath.Join(w.Folder, "ledger"))
	if err != nil {
		return nil, nil, nil, err
	}
	store, err := sqliteledger.Open(ctx, marks, sqliteledger.Config{Window: time.Hour})
	if err != nil {
		return nil, nil, nil, err
	}
	ledger := coalesce.New(store)
	strategy := dedup.NewLedgerStrategy(ledger, broker.Publisher(), dedup.LedgerOptions{Lease: 2 * time.Second, Logger: slog.New(slog.DiscardHandler)})

	shop, _, err := sqldb.Open(ctx, filepath.Join(w.Folder, "books"))
	if err != nil {
		return nil, nil, nil, err
	}
	table, err := sqliteledger.Open(ctx, shop, sqliteledger.Config{Window: time.Hour})
	if err != nil {
		return nil, nil, nil, err
	}
	group := inbox.NewGroup(shop, inbox.Config{})
	return strategy, &inbox.Strategy{Group: group, Marks: inboxMarks{table, shop}, Publisher: broker.Publisher()}, func() {
		_, _, _, _ = strategy.Close(), ledger.Close(), group.Close(), marks.Close()
		_, _ = table.Close(), shop.Close()
	}, nil
}

type inboxMarks struct {
	ledger *sqliteledger.Ledger
	db     *sql.DB
}

func (m inboxMarks) Lookup(ctx context.Context, entries []*dedup.Entry) error {
	return m.ledger.Lookup(ctx, m.db, entries)
}

func (m inboxMarks) Mark(ctx context.Context, tx *sql.Tx, entries []*dedup.Entry) error {
	return m.ledger.Mark(ctx, tx, entries)
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

func (w workerSettings) book(books *sql.DB) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		var event fault.Event
		if err := json.Unmarshal(msg.Payload, &event); err != nil {
			return nil, err
		}
		var to effects.Execer = books
		if !w.Plain {
			tx, err := inbox.Tx(msg.Context())
			if err != nil {
				return nil, err
			}
			to = tx
		}
		return nil, effects.Insert(msg.Context(), to, fault.Effect{ID: event.ID, Key: event.Key, Seq: event.Seq, Consumer: w.Name})
	}
}
