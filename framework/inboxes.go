package framework

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hapax-go/hapax/dedup"
	sqliteledger "github.com/hapax-go/hapax/dedup/ledger/sqlite"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// sqlDatabase is the service's own database, opened once for all handlers.
type sqlDatabase struct {
	db      *sql.DB
	group   *inbox.Group
	ledgers []*sqliteledger.Ledger
}

// close ends the group first: its writer holds a connection for as long as it
// lives, and a ledger may have prepared its statements on that very one. Closing
// them would wait for the connection for ever.
func (d *sqlDatabase) close() error {
	errs := []error{d.group.Close()}
	for _, ledger := range d.ledgers {
		errs = append(errs, ledger.Close())
	}
	return errors.Join(append(errs, d.db.Close())...)
}

// openInbox builds the strategy "inbox" on the sql block's database.
func (s *Service) openInbox(ctx context.Context, window time.Duration) (dedup.Strategy, error) {
	if s.database == nil {
		db, _, err := sqldb.Open(ctx, s.config.SQL.DSN.Reveal())
		if err != nil {
			return nil, fmt.Errorf("%s: open database of the sql block: %w", s.config.Where("sql.dsn"), err)
		}
		group := inbox.NewGroup(db, inbox.Config{MaxUnits: s.config.SQL.Inbox.GroupSize, Logger: s.logger})
		s.database = &sqlDatabase{db: db, group: group}
		s.closers = append(s.closers, s.database.close)
	}
	ledger, err := sqliteledger.Open(ctx, s.database.db, sqliteledger.Config{Window: window, Table: s.config.SQL.Inbox.Table})
	if err != nil {
		return nil, fmt.Errorf("open inbox: %w", err)
	}
	s.database.ledgers = append(s.database.ledgers, ledger)
	s.expire(ledger)
	return &inbox.Strategy{
		Group:     s.database.group,
		Marks:     marks{ledger, s.database.db},
		Publisher: s.broker.Publisher(),
	}, nil
}

// marks is the ledger's table as the inbox uses it.
type marks struct {
	ledger *sqliteledger.Ledger
	db     *sql.DB
}

// Lookup implements inbox.Marks.
func (m marks) Lookup(ctx context.Context, entries []*dedup.Entry) error {
	return m.ledger.Lookup(ctx, m.db, entries)
}

// Mark implements inbox.Marks.
func (m marks) Mark(ctx context.Context, tx *sql.Tx, entries []*dedup.Entry) error {
	return m.ledger.Mark(ctx, tx, entries)
}

const expireEvery = time.Minute

// expire removes a ledger's expired marks until the service closes.
func (s *Service) expire(ledger *sqliteledger.Ledger) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(expireEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if _, err := ledger.Expire(ctx, 0); err != nil && ctx.Err() == nil {
				s.logger.Warn("remove expired marks: next try in a minute", "error", err)
			}
		}
	}()
	s.closers = append(s.closers, func() error { cancel(); <-done; return nil })
}
