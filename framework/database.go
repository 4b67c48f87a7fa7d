package framework

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/schema"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// sqlDatabase is the service's own database, of the sql block, opened once for
// all handlers, the outbox and the ledger.
type sqlDatabase struct {
	db      *sql.DB
	dialect sqldb.Dialect
	names   schema.Names
	inbox   *inbox.Inbox // nil until a handler needs it
}

// close ends the inbox first: its writer holds a connection for as long as it
// lives.
func (d *sqlDatabase) close() error {
	var errs []error
	if d.inbox != nil {
		errs = append(errs, d.inbox.Close())
	}
	return errors.Join(append(errs, d.db.Close())...)
}

// TableNames are the names of the tables in the database of the sql block.
func TableNames(cfg *config.Config) schema.Names {
	return schema.Names{
		Schema: cfg.SQL.Schema, Inbox: cfg.SQL.Inbox.Table, Outbox: cfg.SQL.Outbox.Table,
	}.WithDefaults()
}

// OpenDatabase connects to the database of the sql block, whatever tables it has.
// The caller closes it.
func OpenDatabase(ctx context.Context, cfg *config.Config) (*sql.DB, sqldb.Dialect, error) {
	if !cfg.SQL.Enabled() {
		return nil, "", errors.New("sql.dsn: not set, expected a connection string: add dsn: \"${DATABASE_URL}\" to the sql block")
	}
	db, dialect, err := sqldb.OpenWith(ctx, cfg.DatabaseDSN().Reveal(), sqldb.Options{
		LockTimeout:       cfg.SQL.LockTimeout.Std(),
		IdleInTransaction: cfg.SQL.IdleTimeout.Std(),
		Isolation:         cfg.SQL.Isolation,
	})
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", cfg.Where("sql.dsn"), err)
	}
	return db, dialect, nil
}

// openDatabase connects to the database of the sql block, once, and migrates its
// tables, or checks that they are current, as sql.migrate says.
func (s *Service) openDatabase(ctx context.Context) (*sqlDatabase, error) {
	if s.database != nil {
		return s.database, nil
	}
	db, dialect, err := OpenDatabase(ctx, s.config)
	if err != nil {
		return nil, err
	}
	d := &sqlDatabase{db: db, dialect: dialect, names: TableNames(s.config)}
	tables, err := s.migrate(ctx, d)
	if err == nil {
		err = tables.CheckNames(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", s.config.Where("sql.dsn"), err), db.Close())
	}
	s.database = d
	s.closers = append(s.closers, d.close)
	return d, nil
}

func (s *Service) migrate(ctx context.Context, d *sqlDatabase) (*schema.Schema, error) {
	tables, err := schema.New(d.db, d.dialect, d.names)
	if err != nil {
		return nil, err
	}
	if err := tables.Check(ctx); err == nil || s.config.SQL.Migrate == "check" || !errors.Is(err, schema.ErrNotCurrent) {
		return tables, err
	}
	applied, err := tables.Up(ctx)
	for _, m := range applied {
		s.logger.Info("migrated database", "migration", m.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: run `hapax migrate up` as a user who may create tables, and set sql.migrate: check", err)
	}
	return tables, nil
}

// every runs work until the service closes. One without a Router is an operator's: it looks
// at the marks of a handler, and which of them others still need it does not know.
func (s *Service) every(interval time.Duration, what string, work func(context.Context) error) {
	if s.router == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if err := work(ctx); err != nil && ctx.Err() == nil {
				s.logger.Warn(what+": next try in "+interval.String(), "error", err)
			}
		}
	}()
	s.closers = append(s.closers, func() error { cancel(); <-done; return nil })
}
