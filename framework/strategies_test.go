package framework_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
