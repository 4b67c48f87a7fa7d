package sqlite

import (
	"context"
	"database/sql"
	"sync"
	"time"

	"github.com/hapax-go/hapax/dedup"
	ledger "github.com/hapax-go/hapax/dedup/ledger/sqlite"
)

// marks are the IDs of processed events: a ledger in the same file, whose rows
// are inserted by the broker's own transactions.
type marks struct {
	*ledger.Ledger
	reader *reader

	mu      sync.Mutex
	queue   []*lookup
	running bool
}

// openMarks returns the marks of a window; scopes with equal windows share them.
func (b *Broker) openMarks(ctx context.Context, window time.Duration) (*marks, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	if m := b.marks[window]; m != nil {
		return m, nil
	}
	opened, err := ledger.Open(ctx, b.db, ledger.Config{Window: window})
	if err != nil {
		return nil, err
	}
	b.marks[window] = &marks{Ledger: opened, reader: &reader{DB: b.db, stmts: map[string]*sql.Stmt{}}}
	return b.marks[window], nil
}

func (m *marks) close() {
	_ = m.Close()
	m.reader.close()
}

// lookup is one call that waits for its verdicts.
type lookup struct {
	entries []*dedup.Entry
	done    chan error
}

// lookup sets verdicts from committed marks. Calls that arrive while a query runs
// share the next one. Two copies in one query are Fresh and InFlight; the second
// asks again, and by then most often sees a Duplicate.
func (m *marks) lookup(ctx context.Context, entries []*dedup.Entry) error {
	l := &lookup{entries, make(chan error, 1)}
	m.mu.Lock()
	m.queue = append(m.queue, l)
	lead := !m.running
	m.running = true
	m.mu.Unlock()
	if lead {
		// The query serves others too: it must not end with this caller's context.
		go m.run(context.WithoutCancel(ctx))
	}
	return <-l.done
}

func (m *marks) run(ctx context.Context) {
	for {
		m.mu.Lock()
		queue := m.queue
		m.queue = nil
		m.running = len(queue) > 0
		m.mu.Unlock()
		if len(queue) == 0 {
			return
		}
		var entries []*dedup.Entry
		for _, l := range queue {
			entries = append(entries, l.entries...)
		}
		err := m.Lookup(ctx, m.reader, entries)
		for _, l := range queue {
			l.done <- err
		}
	}
}

// reader is a database that prepares each query once.
type reader struct {
	*sql.DB
	mu    sync.Mutex
	stmts map[string]*sql.Stmt
}

// QueryContext implements ledger.Querier.
func (r *reader) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	r.mu.Lock()
	stmt, err := r.stmts[query], error(nil)
	if stmt == nil {
		if stmt, err = r.PrepareContext(ctx, query); err == nil {
			r.stmts[query] = stmt
		}
	}
	r.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(ctx, args...)
}

func (r *reader) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, stmt := range r.stmts {
		_ = stmt.Close()
	}
}
