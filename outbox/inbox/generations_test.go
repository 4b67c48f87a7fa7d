package inbox_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

// holding is a handler that tells when it has written its effect, and waits.
func (p *process) holding() (h *handler, began, goOn chan struct{}) {
	began, goOn = make(chan struct{}), make(chan struct{})
	return p.handler(func(ctx context.Context, id string) error {
		if err := p.effect(ctx, id); err != nil {
			return err
		}
		began <- struct{}{}
		<-goOn
		return nil
	}), began, goOn
}

// Two copies are in flight while the generation turns. The second finds the mark
// of the first, whichever side of the boundary it is on.
func TestTheBoundaryOfGenerations(t *testing.T) {
	eachServer(t, func(r *rig) {
		first, second := r.process(), r.process()
		holder, began, goOn := first.holding()
		held, copied := make(chan error, 1), make(chan error, 1)
		go func() { held <- holder.deliver("a", "payload") }()
		<-began

		// The first copy has its mark in generation 1 and has not committed: the
		// generation does not turn.
		err := second.inbox.TurnNow(r.t.Context())
		require.True(r.t, sqldb.Retryable(err), "%v", err)
		// The second copy waits for it, in the same generation.
		go func() { copied <- second.handler(r.effect).deliver("a", "payload") }()
		goOn <- struct{}{}
		require.NoError(r.t, <-held)
		<-copied // a duplicate, or refused and delivered again
		require.NoError(r.t, second.inbox.TurnNow(r.t.Context()))

		// A third comes after the turn, without having looked before.
		require.NoError(r.t, second.handler(r.effect).deliver("a", "payload"))
		require.NoError(r.t, second.handler(r.effect).deliver("b", "payload"))
		require.NoError(r.t, first.handler(r.effect).deliver("b", "payload"))
		r.exact(2)
		require.Equal(r.t, 1, r.number(`SELECT count(*) FROM hapax_inbox WHERE generation = 1`))
		require.Equal(r.t, 1, r.number(`SELECT count(*) FROM hapax_inbox WHERE generation = 2`))
	})
}

// The control: without the lock the same interleaving gives two effects.
func TestTheBoundaryWithoutTheLock(t *testing.T) {
	r := newRigOn(t, sqldb.Postgres)
	first, second := r.process(), r.process()
	require.NoError(t, first.inbox.WithoutGenerationLock())
	holder, began, goOn := first.holding()
	held := make(chan error, 1)
	go func() { held <- holder.deliver("a", "payload") }()
	<-began
	require.NoError(t, second.inbox.TurnNow(t.Context()), "nothing keeps the generation open")
	require.NoError(t, second.handler(r.effect).deliver("a", "payload"))
	goOn <- struct{}{}
	require.NoError(t, <-held)
	require.Equal(t, 2, r.number(`SELECT count(*) FROM effects`), "the trap is real")
}

// The generation turns all the time while copies of every event are in flight on
// both sides of it.
func TestGenerationsTurnUnderCopies(t *testing.T) {
	eachServer(t, func(r *rig) {
		for _, level := range []string{"read-committed", "repeatable-read"} {
			r.t.(*testing.T).Run(level, func(t *testing.T) {
				const processes, workers = 3, 12
				r := &rig{t, r.dialect, r.dsn, r.db}
				for _, table := range []string{"effects", "hapax_outbox", "hapax_inbox"} {
					r.exec(`DELETE FROM ` + table)
				}
				var all sync.WaitGroup
				var turns atomic.Int32
				turner := r.process()
				done := make(chan struct{})
				turning := make(chan struct{})
				go func() {
					defer close(turning)
					for {
						select {
						case <-done:
							return
						default:
							if turner.inbox.TurnNow(context.Background()) == nil {
								turns.Add(1)
							}
						}
					}
				}()
				var highest atomic.Int32
				for range processes {
					h := r.process(isolation(level)).handler(r.effect)
					var next atomic.Int32
					for range workers {
						all.Go(func() {
							for turns.Load() < 12 || next.Load() < highest.Load() {
								i := next.Add(1)
								for old := highest.Load(); old < i && !highest.CompareAndSwap(old, i); old = highest.Load() {
								}
								h.insist(fmt.Sprint("event-", i))
							}
						})
					}
				}
				all.Wait()
				close(done)
				<-turning
				r.exact(r.number(`SELECT count(DISTINCT id) FROM effects`))
				require.GreaterOrEqual(t, r.number(`SELECT count(DISTINCT generation) FROM hapax_inbox`), 3)
			})
		}
	})
}

// Old generations leave with their partition, younger ones stay, and what is
// interrupted half way is taken up again.
func TestRetentionDropsPartitions(t *testing.T) {
	eachServer(t, func(r *rig) {
		p := r.process(lasting(time.Hour))
		h := p.handler(r.effect)
		age := func(generation int, column, ago string) {
			r.exec(fmt.Sprintf(`UPDATE hapax_inbox_generations SET %s = %s WHERE generation = %d`, column, ago, generation))
		}
		ago := func(minutes int) string {
			if r.dialect == sqldb.Postgres {
				return fmt.Sprintf(`now() - interval '%d minutes'`, minutes)
			}
			return fmt.Sprintf(`UTC_TIMESTAMP(6) - INTERVAL %d MINUTE`, minutes)
		}
		require.NoError(r.t, h.deliver("old", "payload"))
		require.NoError(r.t, p.inbox.Maintain(r.t.Context()))
		require.Equal(r.t, 1, r.number(`SELECT count(*) FROM hapax_inbox_generations`), "too young to turn")

		age(1, "opened_at", ago(16))
		require.NoError(r.t, p.inbox.Maintain(r.t.Context()))
		require.Equal(r.t, 2, r.number(`SELECT max(generation) FROM hapax_inbox_generations WHERE closed_at IS NULL`))
		require.NoError(r.t, h.deliver("young", "payload"))
		require.NoError(r.t, h.deliver("old", "payload"), "still a duplicate")

		age(1, "closed_at", ago(50))
		require.NoError(r.t, p.inbox.Maintain(r.t.Context()))
		require.Equal(r.t, 2, r.number(`SELECT count(*) FROM hapax_inbox`), "within the window")
		age(1, "closed_at", ago(62))
		require.NoError(r.t, p.inbox.Maintain(r.t.Context()))
		require.Equal(r.t, []string{"young"}, r.texts(`SELECT event_id FROM hapax_inbox`))
		require.Equal(r.t, 1, r.number(`SELECT count(*) FROM hapax_inbox_generations`))

		// A partition that was prepared, and a process that was killed before it
		// turned.
		require.NoError(r.t, p.inbox.TurnNow(r.t.Context()))
		r.exec(`DELETE FROM hapax_inbox_generations WHERE generation = 3`)
		r.exec(`UPDATE hapax_inbox_generations SET closed_at = NULL WHERE generation = 2`)
		require.NoError(r.t, p.inbox.TurnNow(r.t.Context()))
		require.NoError(r.t, h.deliver("later", "payload"))
		require.NoError(r.t, h.deliver("young", "payload"))
		require.Equal(r.t, 2, r.number(`SELECT count(*) FROM hapax_inbox`))
		require.Equal(r.t, 3, r.number(`SELECT count(*) FROM effects`))
	})
}

// Services that share a table keep marks as long as the most patient of them asks.
func TestTheLongestWindowCounts(t *testing.T) {
	eachServer(t, func(r *rig) {
		for _, window := range []time.Duration{time.Hour, 3 * time.Hour, 2 * time.Hour} {
			r.process(lasting(window))
		}
		require.Equal(r.t, 3*3600+1, r.number(`SELECT keep_seconds FROM hapax_inbox_generations`))
	})
}

func TestRetentionOnSQLite(t *testing.T) {
	r := newRigOn(t, sqldb.SQLite)
	p := r.process(lasting(time.Hour))
	h := p.handler(r.effect)
	for _, id := range []string{"a", "b", "c"} {
		require.NoError(t, h.deliver(id, "payload"))
	}
	r.exec(`UPDATE hapax_inbox SET processed_at = processed_at - 3700000 WHERE event_id <> 'c'`)
	require.NoError(t, p.inbox.Maintain(t.Context()))
	require.Equal(t, "c", strings.Join(r.texts(`SELECT event_id FROM hapax_inbox`), " "))
}

// So they do in a SQLite file, until the service is gone for so long that its marks are over.
func TestTheLongestWindowCountsOnSQLite(t *testing.T) {
	r := newRigOn(t, sqldb.SQLite)
	patient, other := r.process(lasting(3*time.Hour)), r.process(lasting(time.Hour))
	require.NoError(t, patient.handler(r.effect).deliver("a", "payload"))
	r.exec(`UPDATE hapax_inbox SET processed_at = processed_at - 2 * 3600000`)
	left := func() int {
		require.NoError(t, other.inbox.Maintain(t.Context()))
		return r.number(`SELECT count(*) FROM hapax_inbox`)
	}
	require.Equal(t, 1, left())
	gone := func(hours int) {
		r.exec(fmt.Sprintf(`UPDATE hapax_inbox_windows SET seen_at = seen_at - %d * 3600000 WHERE milliseconds = 3 * 3600000`, hours))
	}
	gone(5)
	require.Equal(t, 1, left())
	r.process(lasting(3 * time.Hour)) // it is back
	gone(5)
	require.Equal(t, 1, left())
	require.NoError(t, patient.inbox.Maintain(t.Context())) // it was there all the time
	gone(5)
	require.Equal(t, 1, left())
	gone(2)
	require.Equal(t, 0, left())
}
