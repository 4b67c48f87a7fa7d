package framework_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

func TestTheRuleInForce(t *testing.T) {
	for extra, expected := range map[string]string{
		"":                          dedup.StrategyInbox,
		"dedup: {strategy: none}\n": dedup.StrategyNone,
		"broker: sqs\nsqs: {region: eu-west-1}\ndedup: {strategy: consumer}\n": dedup.StrategyConsumer,
		"broker: sqs\n":                    dedup.StrategyConsumer,
		"broker: sqs-fifo\n":               dedup.StrategyDedupID,
		"broker: sqs\nsqs: {fifo: true}\n": dedup.StrategyDedupID,
		"broker: sqs\ntopics: {orders: {name: eu-orders.fifo}}\n": dedup.StrategyDedupID,
		"broker: sqs\ntopics: {other: {name: other.fifo}}\n":      dedup.StrategyConsumer,
		"handlers: {orders: {strategy: none}}\n":                  dedup.StrategyNone,
		"sql: {dsn: other.db}\n":                                  dedup.StrategyInbox,
	} {
		rule, err := framework.RuleFor(parse(t, extra), "orders", "orders")
		require.NoError(t, err, extra)
		require.Equal(t, expected, rule.Strategy, extra)
	}
}

// The kind of claim is the config's, then the handler's, where the strategy has a choice.
func TestTheClaimInForce(t *testing.T) {
	const redis = "broker: redis\nredis: {addresses: [\"127.0.0.1:6379\"]}\n"
	for extra, expected := range map[string]dedup.ClaimKind{
		"":                                dedup.Optimistic,
		"dedup: {claim: pessimistic}\n":   dedup.Pessimistic,
		"dedup: {strategy: message-id}\n": dedup.Pessimistic,
		"dedup: {claim: pessimistic}\nhandlers: {orders: {claim: optimistic}}\n": dedup.Optimistic,
		"handlers: {orders: {claim: pessimistic}, other: {claim: optimistic}}\n": dedup.Pessimistic,
		"dedup: {claim: optimistic}\nhandlers: {orders: {strategy: none}}\n":     "",
		redis:                                   dedup.Optimistic,
		redis + "dedup: {claim: pessimistic}\n": dedup.Pessimistic,
		redis + "sql: {dsn: \"postgres://h/db\"}\n":                                              dedup.Optimistic,
		redis + "sql: {dsn: \"postgres://h/db\"}\ndedup: {strategy: xack}\n":                     dedup.Optimistic,
		redis + "sql: {dsn: \"postgres://h/db\"}\ndedup: {strategy: xack, claim: pessimistic}\n": dedup.Pessimistic,
	} {
		rule, err := framework.RuleFor(parse(t, extra), "orders", "orders")
		require.NoError(t, err, extra)
		require.Equal(t, expected, rule.Claim, extra)
	}
	// A config made in code has not been checked.
	cfg := parse(t, "dedup: {strategy: consumer}\n")
	cfg.Dedup.Claim = "optimistic"
	_, err := framework.RuleFor(cfg, "orders", "orders")
	require.ErrorContains(t, err, `claim is "optimistic": strategy "consumer" supports ["pessimistic"] only`)
}

// asked is a broker that notes what it is asked for.
type asked struct {
	adapters.Broker
	strategy adapters.StrategyOptions
}

func (b *asked) Strategy(name string, options adapters.StrategyOptions) (dedup.Strategy, error) {
	b.strategy = options
	return b.Broker.Strategy(name, options)
}

// A broker's own strategy is that of the handler: its marks, its group, its window, its claim.
func TestABrokersStrategyIsTheHandlers(t *testing.T) {
	service := newService(t, parse(t, "dedup: {window: 3d}\nhandlers: {bill: {window: 5d, claim: pessimistic}}\n"))
	broker := &asked{Broker: service.Broker()}
	framework.SetBroker(service, broker)
	framework.Handle(service, "orders", func(context.Context, Order) error { return nil }, framework.Name("bill"))
	require.NoError(t, start(t, service)())
	require.Equal(t, adapters.StrategyOptions{
		Scope: dedup.Scope{Service: "fulfilment", Handler: "bill"}, Group: "fulfilment.bill", Window: 5 * 24 * time.Hour, Claim: dedup.Pessimistic,
	}, broker.strategy)
}

// A ledger strategy, and none, on the embedded broker: the same handler.
func TestOtherStrategiesOnTheSameBroker(t *testing.T) {
	for strategy, effects := range map[string]int{
		"{strategy: consumer}": 1,
		"{strategy: consumer, allow_volatile: true, ledger: {store: memory}}": 1,
		"{strategy: none}": 2,
	} {
		t.Run(strategy, func(t *testing.T) {
			service := newService(t, parse(t, "dedup: "+strategy+"\n"))
			runs := &counter{}
			framework.Handle(service, "orders", func(_ context.Context, order Order) (Shipment, error) {
				runs.add(order.ID)
				return Shipment{OrderID: order.ID}, nil
			}, framework.To("shipments"))
			for range 2 {
				publish(t, service, "orders", "1", Order{ID: "1"})
			}
			publish(t, service, "orders", "2", Order{ID: "2"})
			stop := start(t, service)
			read(t, service, "shipments", effects+1)
			require.Eventually(t, func() bool { return runs.of("1") == effects && runs.of("2") == 1 }, patience, time.Millisecond)
			require.NoError(t, stop())
		})
	}
}

// A database beside the broker: mark and SQL commit there together.
func TestInboxInADatabaseOfItsOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shop.db")
	db, _, err := sqldb.Open(t.Context(), path)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.ExecContext(t.Context(), `CREATE TABLE charges (order_id TEXT)`)
	require.NoError(t, err)

	service := newService(t, parse(t, "sql: {dsn: \""+path+"\"}\n"))
	runs := &counter{}
	framework.Handle(service, "orders", func(ctx context.Context, order Order) error {
		tx, err := inbox.Tx(ctx)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO charges VALUES (?)`, order.ID); err != nil {
			return err
		}
		if runs.add(order.ID) == 1 {
			return context.DeadlineExceeded // the first attempt leaves nothing
		}
		return nil
	})
	for range 3 {
		publish(t, service, "orders", "1", Order{ID: "1"})
	}
	stop := start(t, service)
	count := func() (charges int) {
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*) FROM charges`).Scan(&charges))
		return charges
	}
	require.Eventually(t, func() bool { return count() == 1 }, patience, time.Millisecond)
	require.NoError(t, stop())
	require.Equal(t, 1, count())
}
