package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

func TestAnEventTakesEffectOnceAndPeopleCanSeeIt(t *testing.T) {
	eachDatabase(t, func(r *rig) {
		h := r.process().handler(func(ctx context.Context, id string) error {
			return errors.Join(r.effect(ctx, id), inbox.SetResult(ctx, map[string]string{"charge": "c-" + id}))
		})
		for range 3 {
			require.NoError(r.t, h.deliver("order-1", "payload"))
		}
		r.exact(1)
		seen := r.texts(`SELECT concat(service, ' ', handler, ' ', event_id, ' ', event_type, ' ', CASE WHEN processed_at IS NULL THEN '' ELSE 'then' END) FROM hapax_inbox`)
		require.Equal(r.t, []string{"shop charge order-1  then"}, seen)
		require.JSONEq(r.t, `{"charge": "c-order-1"}`, r.texts(`SELECT result FROM hapax_inbox`)[0])
	})
}

// A handler that never asks for the transaction has its mark and its outputs in one.
func TestWithoutTx(t *testing.T) {
	eachDatabase(t, func(r *rig) {
		var runs atomic.Int32
		h := r.process().handler(func(context.Context, string) error { runs.Add(1); return nil })
		require.NoError(r.t, h.deliver("a", "payload"))
		require.NoError(r.t, h.deliver("a", "payload"))
		require.EqualValues(r.t, 1, runs.Load())
		require.Equal(r.t, 1, r.number(`SELECT count(*) FROM hapax_inbox`))
		require.Equal(r.t, 1, r.number(`SELECT count(*) FROM hapax_outbox`))
	})
}

func TestTheSameIDWithAnotherPayloadIsAConflict(t *testing.T) {
	eachDatabase(t, func(r *rig) {
		h := r.process().handler(r.effect)
		require.NoError(r.t, h.deliver("a", "one"))
		require.ErrorIs(r.t, h.deliver("a", "two"), dedup.ErrConflict)
		require.NoError(r.t, h.deliver("a", "one"))
		r.exact(1)
	})
}

// Scenario 8: what failed leaves nothing, and the output is stored once.
func TestAHandlerFailsTwiceThenSucceeds(t *testing.T) {
	eachDatabase(t, func(r *rig) {
		boom := errors.New("boom")
		runs := 0
		h := r.process().handler(func(ctx context.Context, id string) error {
			if err := r.effect(ctx, id); err != nil {
				return err
			}
			if runs++; runs == 2 {
				panic("boom")
			}
			if runs == 1 {
				return boom
			}
			return nil
		})
		require.ErrorIs(r.t, h.deliver("a", "payload"), boom)
		require.Equal(r.t, 0, r.number(`SELECT count(*) FROM hapax_inbox`))
		require.Equal(r.t, 0, r.number(`SELECT count(*) FROM effects`))
		require.Panics(r.t, func() { _ = h.deliver("a", "payload") })
		require.NoError(r.t, h.deliver("a", "payload"))
		r.exact(1)
	})
}

// Many handlers share transactions; some fail, and none of them costs another its
// effect or gives it two.
func TestFailuresAmongMany(t *testing.T) {
	eachDatabase(t, func(r *rig) {
		const events, workers = 600, 40
		var runs sync.Map
		boom := errors.New("boom")
		h := r.process().handler(func(ctx context.Context, id string) error {
			if err := r.effect(ctx, id); err != nil {
				return err
			}
			count, _ := runs.LoadOrStore(id, new(atomic.Int32))
			if strings.HasSuffix(id, "7") && count.(*atomic.Int32).Add(1) <= 2 {
				return boom
			}
			return nil
		})
		queue := make(chan string)
		var all sync.WaitGroup
		for range workers {
			all.Go(func() {
				for id := range queue {
					h.insist(id)
				}
			})
		}
		for i := range events {
			queue <- fmt.Sprint("event-", i)
		}
		close(queue)
		all.Wait()
		r.exact(events)
	})
}

// A statement fails and the handler goes on as if nothing had happened. Whatever
// the database makes of it, mark and effect agree.
func TestASwallowedErrorOfAStatement(t *testing.T) {
	eachDatabase(t, func(r *rig) {
		h := r.process().handler(func(ctx context.Context, id string) error {
			tx, err := inbox.Tx(ctx)
			if err != nil {
				return err
			}
			_, _ = tx.ExecContext(ctx, `INSERT INTO missing VALUES (1)`)
			_, _ = tx.ExecContext(ctx, r.dialect.Rebind(`INSERT INTO effects VALUES (?, 1)`), id)
			return nil
		})
		err := h.deliver("a", "payload")
		if r.dialect == sqldb.Postgres { // where it ends the transaction
			require.ErrorContains(r.t, err, "return the error, or put the statement into a savepoint")
			r.exact(0)
			return
		}
		require.NoError(r.t, err)
		r.exact(1)
	})
}

func TestTheTransactionIsNotTheHandlersToEnd(t *testing.T) {
	eachDatabase(t, func(r *rig) {
		for name, misuse := range map[string]func(ctx context.Context) error{
			"Commit":   func(ctx context.Context) error { tx, _ := inbox.Tx(ctx); return tx.Commit() },
			"Rollback": func(ctx context.Context) error { tx, _ := inbox.Tx(ctx); _ = tx.Rollback(); return nil },
			"COMMIT": func(ctx context.Context) error {
				tx, _ := inbox.Tx(ctx)
				_, err := tx.ExecContext(ctx, "/* x */ -- y\n commit")
				return err
			},
		} {
			h := r.process().handler(func(ctx context.Context, id string) error {
				return errors.Join(r.effect(ctx, id), misuse(ctx))
			})
			require.ErrorIs(r.t, h.deliver("a", "payload"), inbox.ErrNotYours, name)
		}
		require.Equal(r.t, 0, r.number(`SELECT count(*) FROM effects`))
		r.exact(0)
	})
}

// Event IDs and types come from producers, in any form.
func TestOddEventIDs(t *testing.T) {
	eachDatabase(t, func(r *rig) {
		h := r.process().handler(func(ctx context.Context, id string) error { return r.effect(ctx, fmt.Sprintf("%.20q", id)) })
		ids := []string{"a\x00b", "\xff\xfe", strings.Repeat("ü", 3000), "'; DROP TABLE effects; --", "\U0001F600"}
		var all sync.WaitGroup
		for _, id := range ids {
			all.Go(func() { h.insist(id); h.insist(id) })
		}
		all.Wait()
		r.exact(len(ids))
	})
}

// Scenario 9, within one machine's processes: the same events at once in four
// inboxes. Under every isolation level there is one effect, and no error of the
// database gets out that a broker would not mend by delivering again.
func TestConcurrentCopies(t *testing.T) {
	eachServer(t, func(r *rig) {
		for _, level := range []string{"read-committed", "repeatable-read", "serializable"} {
			r.t.(*testing.T).Run(level, func(t *testing.T) {
				const events, processes, workers = 250, 4, 16
				r := &rig{t, r.dialect, r.dsn, r.db}
				r.exec(`DELETE FROM effects`)
				r.exec(`DELETE FROM hapax_outbox`)
				r.exec(`DELETE FROM hapax_inbox`)
				var all sync.WaitGroup
				for range processes {
					h := r.process(isolation(level)).handler(r.effect)
					var next atomic.Int32
					for range workers {
						all.Go(func() {
							for {
								i := next.Add(1) - 1
								if i >= events {
									return
								}
								h.insist(fmt.Sprint("event-", i))
							}
						})
					}
				}
				all.Wait()
				r.exact(events)
			})
		}
	})
}
