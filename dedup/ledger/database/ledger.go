package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hapax-go/hapax/dedup"
)

// Config configures a Ledger. The zero Config works.
type Config struct {
	// Window is how long a mark lasts. Default 168h. Choose it longer than the
	// broker can hold a copy back.
	Window time.Duration
	// Table is the first of the ledger's tables; the others' names begin with it.
	// A schema and a dot may stand before it. Default "hapax_ledger".
	Table string
	// RunMarks is how many marks a hot table takes before it is packed. Default
	// 65536.
	RunMarks int
	// Upkeep is how often the hot table is looked at, and packed when it is full
	// or old, and runs are dropped whose window is over. Default 5s; negative:
	// never, and the caller calls Maintain.
	Upkeep time.Duration
	// Logger reports upkeep that failed. Default slog.Default().
	Logger *slog.Logger
	// Clock, for tests, is added to the server's clock.
	Clock func() time.Duration
}

func (c Config) withDefaults() Config {
	if c.Window <= 0 {
		c.Window = 168 * time.Hour
	}
	if c.Table == "" {
		c.Table = "hapax_ledger"
	}
	if c.RunMarks <= 0 {
		c.RunMarks = 64 << 10
	}
	if c.Upkeep == 0 {
		c.Upkeep = 5 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Clock == nil {
		c.Clock = func() time.Duration { return 0 }
	}
	return c
}

// Ledger is a dedup.Ledger in PostgreSQL, MySQL or MariaDB. All methods are safe
// for concurrent use. Put dedup/ledger/coalesce in front of it, so that
// concurrent handlers share round trips.
type Ledger struct {
	db     *sql.DB
	sql    sqlDialect
	tables tables
	config Config

	runs runs
	// marked counts the marks that were made here since the last turn.
	marked atomic.Int64
	full   chan struct{}

	stop    context.CancelFunc
	upkeep  sync.WaitGroup
	closing sync.Once
}

var _ dedup.Ledger = (*Ledger)(nil)

// ErrNoSchema: the ledger's tables do not exist.
var ErrNoSchema = errors.New("the ledger's tables are missing: run `hapax migrate up`, or what `hapax migrate sql` prints")

var tableName = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]{0,62}\.)?[A-Za-z_][A-Za-z0-9_]{0,47}$`)

// Open returns the ledger in a database that has its tables (ErrNoSchema
// otherwise). The database stays the caller's: Close does not close it.
func Open(ctx context.Context, db *sql.DB, dialect Dialect, config Config) (*Ledger, error) {
	l := &Ledger{db: db, config: config.withDefaults(), full: make(chan struct{}, 1)}
	switch dialect {
	case Postgres:
		l.sql = postgres{}
	case MySQL:
		l.sql = mysql{}
	default:
		return nil, fmt.Errorf("open ledger: dialect is %q, expected %q or %q", dialect, Postgres, MySQL)
	}
	if !tableName.MatchString(l.config.Table) {
		return nil, fmt.Errorf("open ledger: table name %q: expected a letter or _, then letters, digits and _, at most 48 in all: choose another name", l.config.Table)
	}
	l.tables = newTables(l.config.Table)
	if err := l.transact(ctx, false, func(*transaction) error { return nil }); err != nil {
		if missing(err) {
			err = fmt.Errorf("%w (%w)", ErrNoSchema, err)
		}
		return nil, fmt.Errorf("open ledger %s: %w", l.config.Table, err)
	}
	if l.config.Upkeep > 0 {
		var background context.Context
		background, l.stop = context.WithCancel(context.Background())
		l.upkeep.Go(func() { l.keep(background) })
	}
	return l, nil
}

// Claim implements dedup.Ledger.
func (l *Ledger) Claim(ctx context.Context, lease time.Duration, entries []*dedup.Entry) error {
	return l.change(ctx, "claim", entries, func(t *transaction) error {
		b := newBatch(entries)
		if err := t.readHot(ctx, b, true); err != nil {
			return err
		}
		if err := t.readMarks(ctx, b, func(stored rows) bool { return !stored.marked(t.now) }); err != nil {
			return err
		}
		var absent, stale []change
		for _, entry := range b.decide(t.now) {
			was := b.of(entry).hot
			taken := change{id: entry.ID, digest: entry.Digest, token: entry.Token, expires: t.now + millis(lease), was: was}
			if was.found {
				stale = append(stale, taken)
			} else {
				absent = append(absent, taken)
			}
		}
		if err := t.write(ctx, l.sql.insertLeases, absent); err != nil {
			return err
		}
		return t.write(ctx, l.sql.replaceLeases, stale)
	})
}

// Renew implements dedup.Ledger.
func (l *Ledger) Renew(ctx context.Context, lease time.Duration, entries []*dedup.Entry) error {
	return l.change(ctx, "renew", entries, func(t *transaction) error {
		b := newBatch(entries)
		if err := t.readHot(ctx, b, true); err != nil {
			return err
		}
		for _, entry := range entries {
			entry.Lost = !b.of(entry).hot.leasedBy(entry)
		}
		return t.write(ctx, l.sql.renew, b.held(t.now+millis(lease)))
	})
}

// Complete implements dedup.Ledger.
func (l *Ledger) Complete(ctx context.Context, entries []*dedup.Entry) error {
	completed := 0
	err := l.change(ctx, "complete", entries, func(t *transaction) error {
		b := newBatch(entries)
		if err := t.readHot(ctx, b, true); err != nil {
			return err
		}
		// Whoever holds no lease any more may have completed before.
		held := b.held(t.now + millis(l.config.Window))
		if err := t.readMarks(ctx, b, func(stored rows) bool { return !stored.marked(t.now) && !stored.held }); err != nil {
			return err
		}
		for _, entry := range entries {
			stored := b.of(entry)
			entry.Lost = !stored.hot.leasedBy(entry) && !(stored.marked(t.now) && stored.mark.token == entry.Token)
		}
		completed = len(held)
		return t.write(ctx, l.sql.mark, held)
	})
	if err == nil && l.marked.Add(int64(completed)) >= int64(l.config.RunMarks) {
		select {
		case l.full <- struct{}{}:
		default:
		}
	}
	return err
}

// Release implements dedup.Ledger.
func (l *Ledger) Release(ctx context.Context, entries []*dedup.Entry) error {
	return l.change(ctx, "release", entries, func(t *transaction) error {
		b := newBatch(entries)
		if err := t.readHot(ctx, b, true); err != nil {
			return err
		}
		return t.write(ctx, l.sql.release, b.held(0))
	})
}

// Close ends upkeep. It leaves the database open.
func (l *Ledger) Close() error {
	l.closing.Do(func() {
		if l.stop != nil {
			l.stop()
		}
		l.upkeep.Wait()
	})
	return nil
}

// millis rounds up, so that a lease never ends earlier than asked for.
func millis(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }
