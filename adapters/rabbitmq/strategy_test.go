package rabbitmq_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/adaptertest"
	"github.com/hapax-go/hapax/adapters/rabbitmq"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/coalesce"
	sqliteledger "github.com/hapax-go/hapax/dedup/ledger/sqlite"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// withLedger is the broker as the framework wires it: with the strategy
// message-id over a ledger.
type withLedger struct {
	*rabbitmq.Broker
	t      *testing.T
	path   string
	frozen atomic.Bool
}

func (b *withLedger) Capabilities() adapters.Capabilities {
	capabilities := b.Broker.Capabilities()
	capabilities.Strategies = []string{dedup.StrategyMessageID}
	return capabilities
}

func (b *withLedger) Strategy(name string, options adapters.StrategyOptions) (dedup.Strategy, error) {
	if name != dedup.StrategyMessageID {
		return b.Broker.Strategy(name, options)
	}
	ledger := &stoppable{Ledger: openLedger(b.t, b.path), frozen: &b.frozen}
	strategy := dedup.NewLedgerStrategy(ledger, b.Publisher(), dedup.LedgerOptions{Lease: time.Second, Logger: quiet})
	b.t.Cleanup(func() { _ = strategy.Close() })
	return strategy, nil
}

func openLedger(t testing.TB, path string) dedup.Ledger {
	t.Helper()
	db, _, err := sqldb.Open(context.Background(), path)
	require.NoError(t, err)
	store, err := sqliteledger.Open(context.Background(), db, sqliteledger.Config{Window: time.Hour})
	require.NoError(t, err)
	ledger := coalesce.New(store)
	t.Cleanup(func() {
		_ = ledger.Close()
		_ = db.Close()
	})
	return ledger
}

// stoppable is a ledger whose leases a paused process does not renew.
type stoppable struct {
	dedup.Ledger
	frozen *atomic.Bool
}

func (s *stoppable) Renew(ctx context.Context, lease time.Duration, entries []*dedup.Entry) error {
	if s.frozen.Load() {
		return errors.New("the process is paused")
	}
	return s.Ledger.Renew(ctx, lease, entries)
}

func TestSuiteWithLedger(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	harness := harness(nil)
	harness.Open = func(t *testing.T) adapters.Broker {
		return &withLedger{Broker: open(t, nil), t: t, path: path}
	}
	harness.Freeze = func(_ *testing.T, broker adapters.Broker) {
		b := broker.(*withLedger)
		b.frozen.Store(true)
		b.Abandon() // the server takes a silent connection for dead, later
	}
	harness.Abandon = func(_ *testing.T, broker adapters.Broker) { broker.(*withLedger).Abandon() }
	adaptertest.Run(t, harness)
}
