package inbox

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
)

// Group runs units of work in shared transactions, on one connection of a
// database. Make one with NewGroup, one per database and process, and end it with
// Close. All methods are safe for concurrent use.
type Group struct {
	config Config
	db     *sql.DB

	mu     sync.Mutex
	queue  []*unit
	closed bool
	wake   chan struct{} // has a token when the queue is not empty, or closed is set
	ended  chan struct{} // closed when the writer has returned
	// slow: the last turn took longer than MaxAge.
	slow bool
	// careful is the number of turns to come whose last units run one by one.
	careful int
	// single is the number of turns to come that begin with a commit of what came
	// before.
	single int
	// owed: a turn was put back to the queue, so it goes before plain units.
	owed bool
	// last is the database's data version when this group last committed.
	last int64
}

// NewGroup starts a group on a SQLite database. The database outlives the group.
func NewGroup(db *sql.DB, config Config) *Group {
	g := &Group{
		config: config.withDefaults(),
		db:     db,
		wake:   make(chan struct{}, 1),
		ended:  make(chan struct{}),
	}
	go g.write()
	return g
}

// Close takes no more units, runs those that are queued, and stops the writer.
func (g *Group) Close() error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.signal()
	<-g.ended
	return nil
}

// Do runs a function in the group's transaction and returns once that has
// committed. Its error is fn's own (fn's writes are undone), or that of the
// commit. fn may be run again when its neighbours failed, so it must set its
// results anew each time. When ctx ends while the unit is queued, it is withdrawn
// and never runs.
func (g *Group) Do(ctx context.Context, fn func(context.Context, *sql.Tx) error) error {
	return g.do(ctx, &unit{kind: single, item: fn})
}

// single runs units one by one: their functions know nothing of each other.
var single = &kind{alone: true, run: func(ctx context.Context, tx *sql.Tx, units []*unit) error {
	return units[0].item.(func(context.Context, *sql.Tx) error)(ctx, tx)
}}

// Batch is a kind of unit of which several run as one, with statements over many
// rows. Make one with NewBatch.
type Batch[T any] struct {
	group *Group
	kind  *kind
}

// NewBatch returns a batch whose units are run by run, several at a time. When it
// fails for several, they are rolled back and run singly, so that only those that
// fail alone do fail. Like any unit, an item may be run again.
func NewBatch[T any](g *Group, run func(ctx context.Context, tx *sql.Tx, items []T) error) *Batch[T] {
	return &Batch[T]{group: g, kind: &kind{run: func(ctx context.Context, tx *sql.Tx, units []*unit) error {
		items := make([]T, len(units))
		for i, unit := range units {
			items[i] = unit.item.(T)
		}
		return run(ctx, tx, items)
	}}}
}

// Do submits one item and waits, as Group.Do does.
func (b *Batch[T]) Do(ctx context.Context, item T) error {
	return b.group.do(ctx, &unit{kind: b.kind, item: item})
}

// Go submits one item and returns at once. done is called with the outcome, on
// the writer's goroutine: it must not block, nor call Do.
func (b *Batch[T]) Go(item T, done func(error)) {
	unit := &unit{kind: b.kind, item: item, done: done}
	if err := b.group.submit(unit); err != nil {
		done(err)
	}
}

func (g *Group) do(ctx context.Context, u *unit) error {
	outcome := make(chan error, 1)
	u.done = func(err error) { outcome <- err }
	if err := g.submit(u); err != nil {
		return err
	}
	select {
	case err := <-outcome:
		return err
	case <-ctx.Done():
	}
	if u.withdraw() {
		return context.Cause(ctx)
	}
	return <-outcome // it is running: soon it is known what became of it
}

func (g *Group) submit(units ...*unit) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return ErrClosed
	}
	g.queue = append(g.queue, units...)
	g.mu.Unlock()
	g.signal()
	return nil
}

func (g *Group) signal() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// take removes up to n units from the queue.
func (g *Group) take(n int) []*unit {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n >= len(g.queue) {
		units := g.queue
		g.queue = nil
		return units
	}
	units := g.queue[:n:n]
	g.queue = g.queue[n:]
	return units
}

// kind says how to run units that are alike.
type kind struct {
	alone bool // never several at a time
	run   func(context.Context, *sql.Tx, []*unit) error
}

// unit is one submitted piece of work: of a kind, or a turn.
type unit struct {
	kind  *kind
	item  any
	turn  *Turn
	done  func(error)
	state atomic.Int32

	// Of a Pool: apart keeps it out of others' groups; tries counts its groups
	// that failed before it ran.
	apart bool
	tries int
}

const (
	unitQueued = iota
	unitRunning
	unitWithdrawn
)

func (u *unit) withdraw() bool { return u.state.CompareAndSwap(unitQueued, unitWithdrawn) }

// claim is called by the writer before it runs the unit.
func (u *unit) claim() bool { return u.state.CompareAndSwap(unitQueued, unitRunning) }

// call runs units of one kind, and turns a panic into their error.
func (k *kind) call(tx *sql.Tx, units []*unit) (err error) {
	defer func() {
		if recovered := recover(); recovered != nil {
			err = fmt.Errorf("panic in database unit: %v", recovered)
		}
	}()
	return k.run(context.Background(), tx, units)
}
