package inbox

import (
	"context"
	"errors"
	"strings"
)

// Queued is the number of units that wait.
func (g *Group) Queued() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.queue)
}

// Queued is the number of units that wait for a shared transaction.
func (i *Inbox) Queued() int {
	p := i.runner.(*Pool)
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue)
}

// TurnNow closes the generation that is open and opens the next, or gives up.
func (i *Inbox) TurnNow(ctx context.Context) error {
	conn, err := i.marks.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	list, err := i.marks.generations(ctx, conn)
	if err != nil {
		return err
	}
	last, ours := list[len(list)-1].number, i.marks.partitions()
	if err := ours.prepare(ctx, conn, last+1); err != nil {
		return err
	}
	return i.marks.turn(ctx, conn, ours, last)
}

// WithoutGenerationLock is the trap: PostgreSQL transactions that do not hold the
// generation open.
func (i *Inbox) WithoutGenerationLock() error {
	marks, ok := i.marks.sql.(*postgresMarks)
	if !ok {
		return errors.New("only on PostgreSQL")
	}
	begin, _, _ := strings.Cut(marks.beginning[0], ";")
	marks.beginning = []string{begin}
	return nil
}

// Careful is the number of turns to come with a savepoint.
func (i *Inbox) Careful() int64 { return i.runner.(*Pool).careful.Load() }

// Crowded reports whether turns run one at a time.
func (i *Inbox) Crowded() bool { return i.runner.(*Pool).crowded() }

// Slow reports whether turns have transactions of their own.
func (s *Strategy) Slow() bool { return s.pace.slow(slowTurn) }

// LookupSQL is PostgreSQL's statement that looks IDs up.
func (i *Inbox) LookupSQL() string { return i.marks.sql.(*postgresMarks).lookupSQL }
