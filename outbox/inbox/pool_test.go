package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/handlers"
	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// Handlers that take row locks in opposite orders deadlock. The database ends one
// of them; it comes again, and is not taken for the event's fault.
func TestDeadlocksAreNobodysFault(t *testing.T) {
	eachServer(t, func(r *rig) {
		const events = 120
		r.deadlocks(events, r.process().handler(r.move), r.process().handler(r.move))
		r.exact(events)
	})
}

// Handlers that were slow have transactions of their own, and deadlock in them.
// They do not stay there: they run one at a time for a while, are found to be
// quick, and share transactions again.
func TestSlowHandlersLeaveDeadlocks(t *testing.T) {
	eachServer(t, func(r *rig) {
		const before, events, after = 6, 40, 200
		var quick atomic.Bool
		p := r.process()
		h := p.handler(func(ctx context.Context, id string) error {
			if quick.Load() {
				return r.move(ctx, id)
			}
			err := r.effect(ctx, id)
			time.Sleep(500 * time.Millisecond) // the time that it takes
			return err
		})
		var slow sync.WaitGroup
		for i := range before {
			slow.Go(func() { assert.NoError(r.t, h.deliver(fmt.Sprint("slow-", i), "payload")) })
		}
		slow.Wait()
		quick.Store(true)
		r.deadlocks(events, h, r.process().handler(r.move))
		for i := range after {
			require.NoError(r.t, h.deliver(fmt.Sprint("after-", i), "payload"))
		}
		require.False(r.t, p.inbox.Crowded(), "turns still run one at a time")
		require.False(r.t, h.strategy.Slow(), "turns still have transactions of their own")
		r.exact(before + events + after)
	})
}

// A transaction that does not come about is the database's fault: no number of
// tries makes it the event's.
func TestATransactionThatDoesNotBeginIsNobodysFault(t *testing.T) {
	eachDatabase(t, func(r *rig) {
		for name, away := range map[string]func(*process) error{
			"connections": func(p *process) error { return p.db.Close() },
			"inbox":       func(p *process) error { return p.inbox.Close() },
		} {
			if name == "connections" && r.dialect == sqldb.SQLite {
				continue // it has the file open
			}
			p := r.process()
			h := p.handler(func(ctx context.Context, id string) error {
				if err := away(p); err != nil {
					return err
				}
				return r.effect(ctx, id)
			})
			var step *dedup.StepError
			require.ErrorAs(r.t, h.deliver("away", "payload"), &step, name)
			require.True(r.t, step.Infrastructure())
			require.Equal(r.t, "away", step.EventID)
		}
	})
}

// move takes the row locks of two accounts, in an order that the event's ID decides.
func (r *rig) move(ctx context.Context, id string) error {
	tx, err := inbox.Tx(ctx)
	if err != nil {
		return err
	}
	first, second := 1, 2
	if id[len(id)-1]%2 == 0 {
		first, second = 2, 1
	}
	for _, account := range []int{first, second} {
		if _, err := tx.ExecContext(ctx, r.dialect.Rebind(`UPDATE accounts SET balance = balance + 1 WHERE id = ?`), account); err != nil {
			return fmt.Errorf("move money: %w", err)
		}
	}
	return r.effect(ctx, id)
}

// deadlocks lets handlers that move money have the same events, all at once.
func (r *rig) deadlocks(events int, of ...*handler) {
	var all sync.WaitGroup
	for _, h := range of {
		var next atomic.Int32
		for range 12 {
			all.Go(func() {
				for i := next.Add(1); i <= int32(events); i = next.Add(1) {
					for _, err := range h.insist(fmt.Sprint("event-", i)) {
						var step *dedup.StepError
						if handlers.Classify(err) == handlers.Buried || !errors.As(err, &step) && !errors.Is(err, dedup.ErrLeaseLost) && !errors.Is(err, dedup.ErrLostRace) {
							r.t.Errorf("blamed: %v", err)
						}
					}
				}
			})
		}
	}
	all.Wait()
	require.Equal(r.t, 2*events, r.number(`SELECT sum(balance) FROM accounts`))
}

// A handler that holds its turn for long gets a transaction of its own after a
// while, and others commit beside it.
func TestSlowHandlersHaveTheirOwn(t *testing.T) {
	eachServer(t, func(r *rig) {
		p := r.process(configured(func(c *inbox.Config) { c.Connections = 1 }))
		slow, began, goOn := p.holding()
		go func() { // it is known to be slow after a few
			for range 20 {
				<-began
				time.Sleep(100 * time.Millisecond) // the time that it takes
				goOn <- struct{}{}
			}
		}()
		for i := range 20 {
			require.NoError(r.t, slow.deliver(fmt.Sprint("slow-", i), "payload"))
		}
		held := make(chan error, 1)
		go func() { held <- slow.deliver("slow", "payload") }()
		<-began
		// There is one shared transaction at a time, and it is free.
		fast := p.handler(r.effect)
		for i := range 10 {
			require.NoError(r.t, fast.deliver(fmt.Sprint("fast-", i), "payload"))
		}
		goOn <- struct{}{}
		require.NoError(r.t, <-held)
		r.exact(31)
	})
}

// A handler that does not let go of a shared transaction loses it, even in the
// middle of a statement, and those beside it come again.
func TestATurnIsTakenAway(t *testing.T) {
	eachServer(t, func(r *rig) {
		sleep := map[sqldb.Dialect]string{sqldb.Postgres: `SELECT pg_sleep(30)`, sqldb.MySQL: `SELECT sleep(30)`}[r.dialect]
		p := r.process(configured(func(c *inbox.Config) { c.Connections = 1; c.TurnTimeout = 100 * time.Millisecond }))
		h := p.handler(func(ctx context.Context, id string) error {
			err := r.effect(ctx, id)
			if id == "stuck" && err == nil {
				tx, _ := inbox.Tx(ctx)
				_, err = tx.ExecContext(ctx, sleep)
			}
			return err
		})
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() { h.insist(fmt.Sprint("event-", i)) })
		}
		began := time.Now()
		require.Error(r.t, h.deliver("stuck", "payload"))
		require.Less(r.t, time.Since(began), 20*time.Second)
		all.Wait()
		r.exact(8)
	})
}

// Scenario 4: a worker stops in the middle of its handler. The server ends its
// transaction, another worker takes effect, and the first cannot any more.
func TestAZombieCannotCommit(t *testing.T) {
	eachServer(t, func(r *rig) {
		impatient := func(_ *inbox.Options, o *sqldb.Options) { o.IdleInTransaction = time.Second }
		zombie := r.process(impatient, configured(func(c *inbox.Config) { c.TurnTimeout = time.Minute }))
		stopped, began, goOn := zombie.holding()
		outcome := make(chan error, 1)
		go func() { outcome <- stopped.deliver("a", "payload") }()
		<-began
		h := r.process().handler(r.effect)
		require.NotPanics(r.t, func() { h.insist("a") })
		goOn <- struct{}{}
		err := <-outcome
		require.Error(r.t, err)
		var step *dedup.StepError
		require.ErrorAs(r.t, err, &step)
		require.NoError(r.t, stopped.deliver("a", "payload"), "a duplicate now")
		r.exact(1)
	})
}

// Scenario 6 and 11, as a client sees them: the server ends all connections, again
// and again, while events are processed.
func TestConnectionsDie(t *testing.T) {
	eachServer(t, func(r *rig) {
		const events = 2000
		h := r.process().handler(r.effect)
		done := make(chan struct{})
		var killer sync.WaitGroup
		killed := 0
		killer.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(250 * time.Millisecond):
					killed += r.killConnections()
				}
			}
		})
		var all sync.WaitGroup
		var next atomic.Int32
		for range 24 {
			all.Go(func() {
				for i := next.Add(1); i <= events; i = next.Add(1) {
					h.insist(fmt.Sprint("event-", i))
				}
			})
		}
		all.Wait()
		close(done)
		killer.Wait()
		require.NotZero(r.t, killed)
		r.exact(events)
	})
}

// killConnections ends every connection to the test's database but those of its
// own pool.
func (r *rig) killConnections() (killed int) {
	if r.dialect == sqldb.Postgres {
		_ = r.db.QueryRow(`SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%hapax%'`).Scan(&killed)
		return killed
	}
	rows, err := r.db.Query(`SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()`)
	if err != nil {
		return 0
	}
	defer rows.Close()
	for rows.Next() {
		var id int
		if rows.Scan(&id) == nil {
			if _, err := r.db.Exec(fmt.Sprintf(`KILL %d`, id)); err == nil {
				killed++
			}
		}
	}
	return killed
}

// An output that cannot be stored is its own event's fault only: those that were undone
// beside it come again, and are not dead-lettered for it.
func TestABadOutputFailsAlone(t *testing.T) {
	eachDatabase(t, func(r *rig) {
		p := r.process(func(o *inbox.Options, _ *sqldb.Options) { o.Outbox = picky{storing{outbox.Config{Dialect: r.dialect}}} })
		h := p.handler(r.effect)
		var all sync.WaitGroup
		var bad atomic.Int32
		for i := range 60 {
			all.Go(func() {
				id := fmt.Sprint("event-", i)
				if i != 30 {
					for _, err := range h.insist(id) {
						assert.NotEqual(r.t, handlers.Buried, handlers.Classify(err), "blamed: %v", err)
					}
					return
				}
				for range 20 {
					if err := h.deliver("bad", "payload"); errors.Is(err, dedup.ErrBadOutput) {
						bad.Add(1)
						return
					}
				}
			})
		}
		all.Wait()
		require.EqualValues(r.t, 1, bad.Load())
		r.exact(59)
	})
}

// picky refuses the outputs of one event only when they are stored.
type picky struct{ storing }

func (p picky) Store(ctx context.Context, tx *sql.Tx, outputs []dedup.Output) error {
	for _, output := range outputs {
		if output.Message.Metadata.Get(dedup.MetaCause) == "bad" {
			return fmt.Errorf("%w: too large", dedup.ErrBadOutput)
		}
	}
	return p.storing.Store(ctx, tx, outputs)
}

// Close commits what is under way.
func TestCloseFinishesWhatIsUnderWay(t *testing.T) {
	eachServer(t, func(r *rig) {
		db, _, err := sqldb.Open(r.t.Context(), r.dsn)
		require.NoError(r.t, err)
		defer db.Close()
		opened, err := inbox.Open(r.t.Context(), inbox.Options{DB: db, Dialect: r.dialect, Table: sqldb.Table{Name: "hapax_inbox"}, Outbox: storing{outbox.Config{Dialect: r.dialect}}})
		require.NoError(r.t, err)
		p := &process{rig: r, db: db, inbox: opened}
		h, began, goOn := p.holding()
		held := make(chan error, 1)
		go func() { held <- h.deliver("a", "payload") }()
		<-began
		closed := make(chan error, 1)
		go func() { closed <- opened.Close() }()
		goOn <- struct{}{}
		require.NoError(r.t, <-held)
		require.NoError(r.t, <-closed)
		r.exact(1)
		require.ErrorIs(r.t, p.handler(r.effect).deliver("b", "payload"), inbox.ErrClosed)
	})
}

// Scenario 17: what is wrong is said at the start.
func TestOpenSaysWhatIsWrong(t *testing.T) {
	eachDatabase(t, func(r *rig) {
		r.exec(`DROP TABLE hapax_inbox`)
		_, err := inbox.Open(r.t.Context(), inbox.Options{DB: r.db, Dialect: r.dialect, Table: sqldb.Table{Name: "hapax_inbox"}})
		require.ErrorContains(r.t, err, "table hapax_inbox is missing, or made by another version: run `hapax migrate up`")
	})
}

// Of two copies that commit at the same moment one is refused. A third is then a
// duplicate, and not taken for one that is still worked on.
func TestALostRaceIsOver(t *testing.T) {
	eachServer(t, func(r *rig) {
		holder, began, goOn := r.process().holding()
		held, lost := make(chan error, 1), make(chan error, 1)
		go func() { held <- holder.deliver("a", "payload") }()
		<-began
		claimed := make(chan struct{}, 1)
		var outcomes []dedup.Outcome
		other := r.process().handler(func(context.Context, string) error { claimed <- struct{}{}; return nil })
		other.observe = func(outcome dedup.Outcome) { outcomes = append(outcomes, outcome) }
		go func() { lost <- other.deliver("a", "payload") }()
		<-claimed // it has looked, and found nothing
		goOn <- struct{}{}
		require.NoError(r.t, <-held)
		require.NoError(r.t, <-lost)
		require.NoError(r.t, other.deliver("a", "payload"))
		require.Equal(r.t, []dedup.Outcome{dedup.LostRace, dedup.AlreadyProcessed}, outcomes)
		r.exact(1)
	})
}
