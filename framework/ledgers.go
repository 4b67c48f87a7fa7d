package framework

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/coalesce"
	"github.com/hapax-go/hapax/dedup/ledger/memory"
	sqliteledger "github.com/hapax-go/hapax/dedup/ledger/sqlite"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// openLedger opens the store of dedup.ledger for one handler's window.
func (s *Service) openLedger(ctx context.Context, window time.Duration) (dedup.Ledger, error) {
	store, dsn := s.config.LedgerStore()
	switch store {
	case "memory":
		if !s.config.Dedup.AllowVolatile {
			return nil, errors.New("dedup.ledger.store is memory, which forgets every event when the process ends: choose sqlite, or set dedup.allow_volatile: true if repeated effects after a restart are acceptable")
		}
		ledger := memory.New(memory.Config{Window: window})
		s.closers = append(s.closers, ledger.Close)
		return ledger, nil
	case "sqlite":
		db, _, err := sqldb.Open(ctx, dsn.Reveal())
		if err != nil {
			return nil, err
		}
		store, err := sqliteledger.Open(ctx, db, sqliteledger.Config{Window: window})
		if err != nil {
			return nil, errors.Join(err, db.Close())
		}
		ledger := coalesce.New(store)
		s.closers = append(s.closers, db.Close, ledger.Close)
		s.expire(store)
		return ledger, nil
	default:
		return nil, fmt.Errorf("this version has no ledger store %q: expected sqlite or memory", store)
	}
}
