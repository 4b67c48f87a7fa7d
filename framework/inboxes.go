package framework

import (
	"context"
	"fmt"
	"time"

	"github.com/hapax-go/hapax/dedup"
	sqliteledger "github.com/hapax-go/hapax/dedup/ledger/sqlite"
	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/inbox"
)

// openInbox builds the strategy "inbox" on the sql block's database.
func (s *Service) openInbox(ctx context.Context) (dedup.Strategy, error) {
	d, err := s.openDatabase(ctx)
	if err != nil {
		return nil, err
	}
	if d.inbox == nil {
		d.inbox, err = inbox.Open(ctx, inbox.Options{
			DB: d.db, Dialect: d.dialect, Table: d.names.InboxTable(),
			Window: s.longestWindow(),
			Outbox: outboxPort{outbox.Config{Dialect: d.dialect, Table: d.names.OutboxTable(), Copy: true}, s.wakeRelay},
			Config: inbox.Config{
				MaxUnits: s.config.SQL.Inbox.GroupSize, Connections: s.config.SQL.Inbox.Connections,
				IdleTimeout: s.config.SQL.IdleTimeout.Std(), Logger: s.logger,
			},
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.config.Where("sql.inbox.table"), err)
		}
		s.every(maintenanceInterval(s.longestWindow()), "remove expired marks", d.inbox.Maintain)
	}
	return d.inbox.Strategy(s.broker.Publisher()), nil
}

// longestWindow is how long the marks of the service's inbox must last: they leave
// together, so the handler with the longest window decides.
func (s *Service) longestWindow() (window time.Duration) {
	for _, r := range s.registrations {
		window = max(window, s.config.Handler(r.name).Window.Std())
	}
	return window
}

// maintenanceInterval is some times in a generation of the inbox.
func maintenanceInterval(window time.Duration) time.Duration {
	return min(max(window/64, time.Second), time.Minute)
}

// outboxPort is package outbox as the inbox uses it. Its Check is the outbox's own: an
// output that is refused only when it is stored undoes all that share its transaction.
type outboxPort struct {
	outbox.Config
	wake func()
}

// Stored implements inbox.Outbox.
func (p outboxPort) Stored() {
	if p.wake != nil {
		p.wake()
	}
}

const expireEvery = time.Minute

// expire removes a ledger's expired marks until the service closes.
func (s *Service) expire(ledger *sqliteledger.Ledger) {
	s.every(expireEvery, "remove expired marks", func(ctx context.Context) error {
		_, err := ledger.Expire(ctx, 0)
		return err
	})
}
