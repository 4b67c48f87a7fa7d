package rabbitmq_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/adaptertest"
	"github.com/hapax-go/hapax/adapters/rabbitmq"
	"github.com/hapax-go/hapax/dedup"
)

// withLedger is the broker as the framework wires it: with the strategy
// message-id over a ledger.
type withLedger struct {
	*rabbitmq.Broker
	t        *testing.T
	settings workerSettings
	frozen   atomic.Bool
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
	store, closeStore, err := b.settings.openLedger(b.t.Context())
	if err != nil {
		return nil, err
	}
	b.t.Cleanup(func() { _ = store.Close(); closeStore() })
	ledger := &stoppable{Ledger: store, frozen: &b.frozen}
	strategy := dedup.NewLedgerStrategy(ledger, b.Publisher(), dedup.LedgerOptions{Lease: time.Second, Logger: quiet})
	b.t.Cleanup(func() { _ = strategy.Close() })
	return strategy, nil
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
	t.Parallel()
	onStores(t, scenario{}, stores(), func(t *testing.T, s scenario) {
		s.Folder, s.Topic = t.TempDir(), newTopic(t)
		s.prepareLedger(t)
		harness := harness(nil)
		harness.Open = func(t *testing.T) adapters.Broker {
			return &withLedger{Broker: open(t, nil), t: t, settings: s.workerSettings}
		}
		harness.Freeze = func(_ *testing.T, broker adapters.Broker) {
			b := broker.(*withLedger)
			b.frozen.Store(true)
			b.Abandon() // the server takes a silent connection for dead, later
		}
		harness.Abandon = func(_ *testing.T, broker adapters.Broker) { broker.(*withLedger).Abandon() }
		adaptertest.Run(t, harness)
	})
}
