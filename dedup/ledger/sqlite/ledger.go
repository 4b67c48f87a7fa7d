package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"time"

	"github.com/hapax-go/hapax/dedup"
)

// Config configures a Ledger. The zero Config works.
type Config struct {
	// Window is how long a mark lasts. Default 168h. Choose it longer than the
	// broker can hold a copy back.
	Window time.Duration
	// Table is the table of marks; the names of the others begin with it. A
	// letter or "_", then letters, digits and "_", at most 60 in all. Default
	// "hapax_ledger".
	Table string
	// GenerationMarks is how many marks a generation takes before the next one
	// begins. Default 65536.
	GenerationMarks int
	// Now reads the time. Default time.Now. Tests set it.
	Now func() time.Time
}

// Ledger is a dedup.Ledger in a SQLite database. All methods are safe for
// concurrent use; writers wait for each other, as SQLite has one at a time.
type Ledger struct {
	db         *sql.DB
	window     time.Duration
	now        func() time.Time
	sql        queries
	statements map[string]*sql.Stmt
	size       int // of a generation, in marks
	// writer is a token for the ledger's one writer. SQLite lets writers that wait
	// try again after pauses, whoever comes; among many somebody would be too late
	// every time, until its patience is over.
	writer chan struct{}
	older  older
}

var _ dedup.Ledger = (*Ledger)(nil)

var tableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,59}$`)

// Open creates the tables that are missing and returns the ledger. The database
// stays the caller's: Close does not close it.
func Open(ctx context.Context, db *sql.DB, config Config) (*Ledger, error) {
	if config.Window <= 0 {
		config.Window = 168 * time.Hour
	}
	if config.Table == "" {
		config.Table = "hapax_ledger"
	}
	if config.GenerationMarks <= 0 {
		config.GenerationMarks = 64 << 10
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if !tableName.MatchString(config.Table) {
		return nil, fmt.Errorf("open sqlite ledger: table name %q: expected a letter or _, then letters, digits and _, at most 60 in all: choose another name", config.Table)
	}
	ledger := &Ledger{
		db: db, window: config.Window, now: config.Now, size: config.GenerationMarks, writer: make(chan struct{}, 1),
		sql: newQueries(config.Table), statements: map[string]*sql.Stmt{},
	}
	if _, err := db.ExecContext(ctx, schema(config.Table)); err != nil {
		return nil, fmt.Errorf("create tables of sqlite ledger: %w", err)
	}
	for _, query := range ledger.sql.all() {
		statement, err := db.PrepareContext(ctx, query)
		if err != nil {
			_ = ledger.Close()
			return nil, fmt.Errorf("prepare sqlite ledger: %w: the table %s may belong to something else: choose another name", err, config.Table)
		}
		ledger.statements[query] = statement
	}
	return ledger, nil
}

// Claim implements dedup.Ledger.
func (l *Ledger) Claim(ctx context.Context, lease time.Duration, entries []*dedup.Entry) error {
	return l.transact(ctx, "claim", entries, func(q Querier, now int64) error {
		found, _, err := l.find(ctx, q, entries, now)
		if err != nil {
			return err
		}
		return l.putLeases(ctx, q, decide(entries, found, now, dedup.InFlight), now+millis(lease))
	})
}

// Renew implements dedup.Ledger.
func (l *Ledger) Renew(ctx context.Context, lease time.Duration, entries []*dedup.Entry) error {
	return l.transact(ctx, "renew", entries, func(q Querier, now int64) error {
		found, _, err := l.find(ctx, q, entries, now)
		if err != nil {
			return err
		}
		var held []*dedup.Entry
		for i, entry := range entries {
			entry.Lost = !found[i].lease.heldBy(entry)
			if !entry.Lost {
				held = append(held, entry)
			}
		}
		return l.exec(ctx, q, l.sql.renew, pack(held), len(held), now+millis(lease))
	})
}

// Complete implements dedup.Ledger.
func (l *Ledger) Complete(ctx context.Context, entries []*dedup.Entry) error {
	return l.transact(ctx, "complete", entries, func(q Querier, now int64) error {
		found, current, err := l.find(ctx, q, entries, now)
		if err != nil {
			return err
		}
		var held []*dedup.Entry
		for i, entry := range entries {
			if found[i].lease.heldBy(entry) {
				held = append(held, entry)
			}
			entry.Lost = !found[i].lease.heldBy(entry) && !found[i].mark.heldBy(entry)
		}
		if err := l.putMarks(ctx, q, held, current, now); err != nil {
			return err
		}
		return l.dropLeases(ctx, q, held)
	})
}

// Release implements dedup.Ledger.
func (l *Ledger) Release(ctx context.Context, entries []*dedup.Entry) error {
	return l.transact(ctx, "release", entries, func(q Querier, _ int64) error {
		return l.dropLeases(ctx, q, entries)
	})
}

// Close releases the prepared statements. It leaves the database open.
func (l *Ledger) Close() error {
	var first error
	for _, statement := range l.statements {
		if err := statement.Close(); err != nil && first == nil {
			first = fmt.Errorf("close sqlite ledger: %w", err)
		}
	}
	return first
}

// millis rounds up, so that a lease never ends earlier than asked for.
func millis(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }
