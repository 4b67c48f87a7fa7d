package sqlite_test

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
	"strconv"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqlite"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

const (
	// lease is that of a consumer process, if its scenario does not say otherwise.
	lease = 2 * time.Second
	// control is the claim of a consumer without deduplication.
	control dedup.ClaimKind = "none"
	// metaCopy tells the copies that the producer sent apart.
	metaCopy = "copy"
)

// consumer is a process that makes one row and one output of each event. It is
// its own argument.
type consumer struct {
	Name, Folder string
	Claim        dedup.ClaimKind
	// Lease is the consumer's. Default lease.
	Lease time.Duration
	// Takes is the handler's working time, before it asks for the transaction.
	Takes time.Duration
	// HangsAt is the number of the handler that is at work until its process ends.
	// Default: none.
	HangsAt int64
	// FailAttempts is how often the handler fails on a message, its row written.
	FailAttempts int
	// FailCommits is how many commits fail, everything written.
	FailCommits int64
}

// note is what a consumer tells the harness: a handler has begun, or a delivery
// has failed.
type note struct{ Err string }

func shopFile(folder string) string       { return filepath.Join(folder, "shop.db") }
func deliveriesFile(folder string) string { return filepath.Join(folder, "deliveries.db") }

func acceptanceConfig(folder string) sqlite.Config {
	return sqlite.Config{
		Path: filepath.Join(folder, "hapax.db"), Synchronous: sqldb.Normal, LeaseDuration: lease,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

func consumerMain(ctx context.Context, args []string) int {
	var c consumer
	err := json.Unmarshal([]byte(args[0]), &c)
	if err == nil {
		err = c.run(ctx)
	}
	if err != nil && ctx.Err() == nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func (c consumer) run(ctx context.Context) (err error) {
	deliveries, err := effects.Open(ctx, deliveriesFile(c.Folder))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, deliveries.Close()) }()
	shop, err := effects.Open(ctx, shopFile(c.Folder))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shop.Close()) }()
	config := acceptanceConfig(c.Folder)
	config.LeaseDuration = cmp.Or(c.Lease, lease)
	broker, err := sqlite.Open(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	subscriber, err := broker.Subscriber(adapters.Subscription{
		Group: group, Window: 50, RedeliveryDelay: 5 * time.Millisecond, DrainTimeout: 10 * time.Second, MaxDeliveries: 1000,
	})
	if err != nil {
		return err
	}
	deduplicate, err := c.middleware(broker)
	if err != nil {
		return err
	}
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	c.armFailures()
	router.AddHandler("ship", input, subscriber, output, broker.Publisher(), c.handler(ctx, shop)).
		AddMiddleware(c.record(ctx, deliveries), deduplicate.Wrap)
	go func() { <-router.Running(); <-ctx.Done(); _ = router.Close() }() // closing one that starts would block both
	go func() { <-router.Running(); _ = fault.Ready(ctx) }()
	return router.Run(context.WithoutCancel(ctx))
}

func (c consumer) middleware(broker *sqlite.Broker) (*dedup.Middleware, error) {
	scope := dedup.Scope{Service: "acceptance", Handler: "ship"}
	strategy := dedup.Strategy(dedup.Plain{Publisher: broker.Publisher()})
	if c.Claim != control {
		var err error
		strategy, err = broker.Strategy(dedup.StrategyInbox, adapters.StrategyOptions{Scope: scope, Group: group, Window: time.Hour, Claim: c.Claim})
		if err != nil {
			return nil, err
		}
	}
	return dedup.New(dedup.Config{Scope: scope, Strategy: strategy, InFlightWait: time.Second})
}

// armFailures lets the first commits fail at their last moment: with Hapax all is
// written and nothing committed; the control has its row and cannot publish.
func (c consumer) armFailures() {
	if c.FailCommits == 0 {
		return
	}
	point := failpoint.BeforeMark
	if c.Claim == control {
		point = failpoint.BeforePublish
	}
	var hits atomic.Int64
	failpoint.Arm(point, func() error {
		if hits.Add(1) <= c.FailCommits {
			return errRefused
		}
		return nil
	})
}

// record counts what was delivered, whether or not it gets past the deduplication,
// and tells the harness of errors.
func (c consumer) record(ctx context.Context, deliveries *sql.DB) message.HandlerMiddleware {
	return func(handle message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			copied, err := strconv.Atoi(msg.Metadata.Get(metaCopy))
			if err != nil {
				return nil, err
			}
			err = effects.InsertDelivery(context.WithoutCancel(msg.Context()), deliveries, fault.Delivery{
				ID: msg.UUID, Copy: copied, Consumer: c.Name, Attempt: adapters.DeliveryFrom(msg.Context()).Attempt,
			})
			if err != nil {
				return nil, err
			}
			outputs, err := handle(msg)
			if err != nil {
				_ = fault.Emit(ctx, note{Err: err.Error()})
			}
			return outputs, err
		}
	}
}

// handler writes an effect: with Hapax by the transaction of the inbox, in the
// control in one of its own, before the acknowledgement.
func (c consumer) handler(ctx context.Context, shop *sql.DB) message.HandlerFunc {
	var begun atomic.Int64
	return func(msg *message.Message) ([]*message.Message, error) {
		var event fault.Event
		if err := json.Unmarshal(msg.Payload, &event); err != nil {
			return nil, err
		}
		_ = fault.Emit(ctx, note{})
		<-time.After(c.Takes) // work that knows nothing of contexts
		hangs := begun.Add(1) == c.HangsAt
		var store effects.Execer = shop
		if c.Claim != control {
			if hangs {
				select {} // without the file's lock
			}
			tx, err := inbox.Tx(msg.Context())
			if err != nil {
				return nil, err
			}
			store = tx
		}
		effect := fault.Effect{ID: event.ID, Key: event.Key, Seq: event.Seq, Consumer: c.Name}
		if err := effects.Insert(context.WithoutCancel(msg.Context()), store, effect); err != nil {
			return nil, err
		}
		if hangs {
			select {}
		}
		if adapters.DeliveryFrom(msg.Context()).Attempt <= c.FailAttempts {
			return nil, errRefused
		}
		return message.Messages{message.NewMessage("", msg.Payload)}, nil
	}
}
