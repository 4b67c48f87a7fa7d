package demo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqs"
	"github.com/hapax-go/hapax/adapters/sqs/plain"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
	"github.com/hapax-go/hapax/internal/servers"
)

var (
	sqsBroker     = sqsKind("sqs", dedup.StrategyConsumer)
	sqsFIFOBroker = sqsKind("sqs-fifo", dedup.StrategyDedupID)
)

// sqsKind is a kind of queue. Fulfilment runs by the kind's row of the rules table,
// with its ledger in a SQLite file; shipping writes its rows through the inbox.
func sqsKind(name, strategy string) broker {
	return broker{
		name:      name,
		unordered: name == "sqs", // standard queues promise no order
		plainBy:   "the official watermill-aws adapter",
		config: func(folder, lane string) *config.Config {
			cfg := config.Default()
			cfg.Service, cfg.Broker = "black-friday", name
			cfg.SQS.Endpoint = "http://127.0.0.1:9324" // where ElasticMQ listens by itself
			if server, found := servers.Find(servers.SQS); found {
				cfg.SQS.Endpoint = server.URL
			}
			// An emulator knows no credentials, but the SDK insists on some.
			for _, variable := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
				if os.Getenv(variable) == "" {
					_ = os.Setenv(variable, "demo")
				}
			}
			run := fnv.New32a()
			_, _ = run.Write([]byte(folder))
			cfg.SQS.QueuePrefix = fmt.Sprintf("demo-%08x-%s-", run.Sum32(), lane)
			cfg.SQS.Create = true
			// Short, so that a killed consumer's messages come again soon.
			cfg.SQS.VisibilityTimeout = config.Duration(5 * time.Second)
			cfg.SQS.WaitTime = config.Duration(time.Second)
			cfg.Dedup.Lease = config.Duration(3 * time.Second)
			cfg.Dedup.Ledger.Store = "sqlite"
			cfg.Dedup.Ledger.DSN = config.DSN(filepath.Join(folder, lane+".db"))
			cfg.SQL.DSN = config.DSN(shopFile(folder, lane))
			fulfilment := cfg.Handler(topicOrders)
			fulfilment.Strategy = strategy
			cfg.Handlers = map[string]config.Handler{topicOrders: fulfilment}
			return cfg
		},
		clear: func(ctx context.Context, cfg *config.Config) error {
			ends, err := sqsEnds(ctx, cfg)
			if err != nil {
				return err
			}
			return ends.Delete(ctx, topicOrders, topicShipping)
		},
		plain: func(ctx context.Context, cfg *config.Config, _ *slog.Logger) (*plainEnds, error) {
			ends, err := sqsEnds(ctx, cfg)
			if err != nil {
				return nil, err
			}
			publisher, err := ends.Publisher()
			if err != nil {
				return nil, err
			}
			return &plainEnds{
				subscribe: func(string) (message.Subscriber, error) { return ends.Subscriber() },
				publisher: publisher,
				close:     publisher.Close,
			}, nil
		},
		shop:    shopFile,
		outputs: sqsOutputs,
		left:    sqsLeft,
	}
}

func sqsEnds(ctx context.Context, cfg *config.Config) (*plain.Ends, error) {
	return plain.Open(ctx, sqs.Config{
		Endpoint: cfg.SQS.Endpoint, QueuePrefix: cfg.SQS.QueuePrefix, FIFO: cfg.Broker == "sqs-fifo",
		Create: true, VisibilityTimeout: time.Duration(cfg.SQS.VisibilityTimeout),
	})
}

func shopFile(folder, lane string) string { return filepath.Join(folder, lane+"-shop.db") }

// sqsOutputs are the messages that the second stage was given, told apart by their
// UUIDs: a queue keeps nothing to read afterwards. A request that was published
// again under the same derived ID counts once, as it does for the stage's inbox; the
// plain consumer draws a new UUID every time.
func sqsOutputs(ctx context.Context, cfg *config.Config) (found []fault.Effect, err error) {
	ledger := string(cfg.Dedup.Ledger.DSN)
	folder, lane := filepath.Dir(ledger), strings.TrimSuffix(filepath.Base(ledger), ".db")
	open := func(path string) func() (*sql.DB, error) {
		return func() (*sql.DB, error) { return effects.Open(ctx, path) }
	}
	shop := open(shopFile(folder, lane))
	if cfg.SQL.DSN != config.DSN(shopFile(folder, lane)) { // see withSQL
		shop = func() (*sql.DB, error) { return openShop(ctx, cfg.SQL.DSN) }
	}
	read := func(open func() (*sql.DB, error), read func(*sql.DB) error) {
		if err != nil {
			return
		}
		var db *sql.DB
		if db, err = open(); err == nil {
			err = errors.Join(read(db), db.Close())
		}
	}
	orders := map[string]fault.Effect{}
	read(shop, func(db *sql.DB) error {
		shipped, err := effects.Read(ctx, db)
		for _, effect := range shipped {
			orders[effect.ID] = effect
		}
		return err
	})
	read(open(deliveriesFile(folder, lane)), func(db *sql.DB) error {
		deliveries, err := effects.ReadDeliveries(ctx, db)
		type copied struct {
			id   string
			copy int
		}
		seen := map[copied]bool{}
		for _, delivery := range deliveries {
			order, shipping := strings.CutPrefix(delivery.ID, topicShipping+"/")
			if this := (copied{order, delivery.Copy}); shipping && !seen[this] {
				seen[this] = true
				found = append(found, orders[order])
			}
		}
		return err
	})
	return found, err
}

func sqsLeft(ctx context.Context, _ *config.Config, open adapters.Broker) (map[string]int64, error) {
	left := map[string]int64{}
	for _, topic := range []string{topicOrders, topicShipping} {
		backlog, err := open.(*sqs.Broker).Backlog(ctx, topic)
		if err != nil {
			return nil, err
		}
		left[topic+" waiting"] = backlog.Waiting + backlog.Delayed
		left[topic+" in flight"] = backlog.InFlight
	}
	return left, nil
}
