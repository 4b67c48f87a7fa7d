package framework

import (
	"context"
	"errors"
	"fmt"
	"time"

	redisledger "github.com/hapax-go/hapax/adapters/redis/ledger"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/coalesce"
	"github.com/hapax-go/hapax/dedup/ledger/database"
	"github.com/hapax-go/hapax/dedup/ledger/memory"
	sqliteledger "github.com/hapax-go/hapax/dedup/ledger/sqlite"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/handlers"
	"github.com/hapax-go/hapax/outbox/schema"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// openLedger opens the store of dedup.ledger for a window. Handlers of one window
// share it, and with it their round trips.
func (s *Service) openLedger(ctx context.Context, window time.Duration) (dedup.Ledger, error) {
	if shared := s.ledgers[window]; shared != nil {
		return shared, nil
	}
	ledger, err := s.newLedger(ctx, window)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, ledger.Close)
	if s.ledgers == nil {
		s.ledgers = map[time.Duration]dedup.Ledger{}
	}
	s.ledgers[window] = ledger
	return ledger, nil
}

func (s *Service) newLedger(ctx context.Context, window time.Duration) (dedup.Ledger, error) {
	switch store, dsn := s.config.LedgerStore(); store {
	case "memory":
		if !s.config.Dedup.AllowVolatile {
			return nil, errors.New("dedup.ledger.store is memory, which forgets every event when the process ends: choose sqlite, or set dedup.allow_volatile: true if repeated effects after a restart are acceptable")
		}
		return memory.New(memory.Config{Window: window}), nil
	case "sqlite":
		return s.openSQLiteLedger(ctx, dsn, window)
	case "postgres", "mysql":
		return s.openSQLLedger(ctx, dsn, window)
	case "redis":
		return s.openRedisLedger(ctx, dsn, window)
	default:
		return nil, fmt.Errorf("%s: this version has no ledger store %q: expected sqlite, postgres, mysql, redis or memory", s.config.Where("dedup.ledger.store"), store)
	}
}

func (s *Service) openSQLiteLedger(ctx context.Context, dsn config.DSN, window time.Duration) (dedup.Ledger, error) {
	db, _, err := sqldb.Open(ctx, dsn.Reveal())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.whereLedger(), err)
	}
	store, err := sqliteledger.Open(ctx, db, sqliteledger.Config{Window: window})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", s.whereLedger(), err), db.Close())
	}
	s.closers = append(s.closers, db.Close)
	s.expire(store)
	return coalesce.New(store), nil
}

// openSQLLedger opens the ledger in the database of the sql block, or in one of
// its own.
func (s *Service) openSQLLedger(ctx context.Context, dsn config.DSN, window time.Duration) (dedup.Ledger, error) {
	d, err := s.ledgerDatabase(ctx, dsn)
	if err != nil {
		return nil, err
	}
	table := d.names.Ledger
	if d.names.Schema != "" {
		table = d.names.Schema + "." + table
	}
	store, err := database.Open(ctx, d.db, database.Dialect(d.dialect), database.Config{
		Window: window, Table: table, Logger: s.logger,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.whereLedger(), err)
	}
	return coalesce.New(store), nil
}

func (s *Service) ledgerDatabase(ctx context.Context, dsn config.DSN) (*sqlDatabase, error) {
	if dsn == s.config.DatabaseDSN() {
		return s.openDatabase(ctx)
	}
	if s.ledgerDB != nil {
		return s.ledgerDB, nil
	}
	db, dialect, err := sqldb.OpenWith(ctx, dsn.Reveal(), sqldb.Options{
		LockTimeout: s.config.SQL.LockTimeout.Std(), IdleInTransaction: s.config.SQL.IdleTimeout.Std(),
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.whereLedger(), err)
	}
	d := &sqlDatabase{db: db, dialect: dialect, names: schema.Names{}.WithDefaults()}
	if _, err := s.migrate(ctx, d); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", s.whereLedger(), err), db.Close())
	}
	s.ledgerDB = d
	s.closers = append(s.closers, d.close)
	return d, nil
}

// openRedisLedger connects to a server of its own, or to that of the redis block.
func (s *Service) openRedisLedger(ctx context.Context, dsn config.DSN, window time.Duration) (dedup.Ledger, error) {
	connection, err := redisLedgerConfig(s.config, dsn, s.logger)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.whereLedger(), err)
	}
	store, err := redisledger.Open(ctx, connection, redisledger.Config{Window: window})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.whereLedger(), err)
	}
	return coalesce.New(store), nil
}

// whereLedger is the place in the config that says where the ledger is.
func (s *Service) whereLedger() string { return whereLedger(s.config) }

func whereLedger(cfg *config.Config) string {
	if cfg.Dedup.Ledger.DSN == "" && cfg.SQL.Enabled() {
		return cfg.Where("sql.dsn")
	}
	return cfg.Where("dedup.ledger.dsn")
}

// ownLedger reports whether the config chooses a ledger, whatever the strategies need.
func ownLedger(cfg *config.Config) bool {
	return cfg.Dedup.Ledger.Store != "auto" || cfg.Dedup.Ledger.DSN != ""
}

// journaled gives a handler the journal of handlers.Once, if the service has a
// ledger: because its strategy uses one, or because dedup.ledger says so.
func (s *Service) journaled(ctx context.Context, topic, name string, typed handlers.Handler) (handlers.Handler, error) {
	rule, err := RuleFor(s.config, topic, name)
	if err != nil || typed.Single == nil || !rule.Ledger && !ownLedger(s.config) {
		return typed, err
	}
	ledger, err := s.openLedger(ctx, s.config.Handler(name).Window.Std())
	if err != nil {
		return typed, fmt.Errorf("open journal: %w", err)
	}
	typed.Single = handlers.Journal(ledger)(typed.Single)
	return typed, nil
}
