package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/hapax-go/hapax/dedup"
)

// Querier is what *sql.Tx, *sql.Conn and *sql.DB have in common.
type Querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Lookup sets the Verdict of every entry and changes nothing, so the answer may
// be outdated at once: Mark decides. A repeated ID is Fresh first and InFlight
// (or Conflict) for the rest.
func (l *Ledger) Lookup(ctx context.Context, q Querier, entries []*dedup.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	now := l.now().UnixMilli()
	found, _, err := l.find(ctx, q, entries, now)
	if err != nil {
		return fmt.Errorf("look up %d events: %w", len(entries), err)
	}
	decide(entries, found, now, dedup.InFlight)
	return nil
}

// Mark marks entries within the caller's transaction, which must hold the write
// lock already (BEGIN IMMEDIATE, or an earlier write) and which the caller rolls
// back on an error. Verdicts:
//
//	Fresh      the mark was inserted; a lease of the entry's own token is gone
//	Duplicate  the ID was marked before, or by an earlier entry of this call
//	InFlight   another token holds a live lease; nothing was changed
//	Conflict   marked or leased with another payload; nothing was changed
//
// Whatever the caller writes for entries that are not Fresh has to be undone.
// Nothing counts before the caller's commit has returned.
func (l *Ledger) Mark(ctx context.Context, q Querier, entries []*dedup.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	if err := l.mark(ctx, q, entries, l.now().UnixMilli()); err != nil {
		return fmt.Errorf("mark %d events: %w", len(entries), err)
	}
	return nil
}

func (l *Ledger) mark(ctx context.Context, q Querier, entries []*dedup.Entry, now int64) error {
	found, current, err := l.find(ctx, q, entries, now)
	if err != nil {
		return err
	}
	fresh := decide(entries, found, now, dedup.Duplicate)
	if err := l.putMarks(ctx, q, fresh, current, now); err != nil {
		return err
	}
	// A lease beside a mark would do no harm but outlive its purpose: the
	// caller's own, or one that ran out.
	var leased []*dedup.Entry
	for i, entry := range entries {
		if entry.Verdict == dedup.Fresh && found[i].lease.found {
			owner := *entry
			owner.Token = found[i].lease.token
			leased = append(leased, &owner)
		}
	}
	return l.dropLeases(ctx, q, leased)
}

// transact runs work in a transaction that holds the write lock from its first
// statement on. Were it to read first, two transactions could read the same
// state, and the second would be refused when it writes (SQLITE_BUSY_SNAPSHOT),
// which no waiting cures. The time is read under the lock, so that it does not
// run backwards from one transaction to the next.
func (l *Ledger) transact(ctx context.Context, verb string, entries []*dedup.Entry, work func(Querier, int64) error) error {
	if len(entries) == 0 {
		return nil
	}
	if err := l.locked(ctx, work); err != nil {
		return fmt.Errorf("%s %d events: %w", verb, len(entries), err)
	}
	return nil
}

func (l *Ledger) locked(ctx context.Context, work func(Querier, int64) error) error {
	select {
	case l.writer <- struct{}{}:
		defer func() { <-l.writer }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	q := prepared{tx: tx, statements: l.statements}
	if _, err := q.ExecContext(ctx, l.sql.lock); err != nil {
		return err
	}
	if err := work(q, l.now().UnixMilli()); err != nil {
		return err
	}
	return tx.Commit()
}

// prepared is a transaction that uses the ledger's prepared statements.
type prepared struct {
	tx         *sql.Tx
	statements map[string]*sql.Stmt
}

func (p prepared) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return p.tx.StmtContext(ctx, p.statements[query]).ExecContext(ctx, args...)
}

func (p prepared) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return p.tx.StmtContext(ctx, p.statements[query]).QueryContext(ctx, args...)
}
