package dedup_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/memory"
	"github.com/hapax-go/hapax/internal/written"
)

const lease = 30 * time.Second

func claimOne(t *testing.T, strategy dedup.Strategy, id string) (*dedup.Event, dedup.Claim) {
	t.Helper()
	msg := order(id)
	event := &dedup.Event{Message: msg, Entry: dedup.Entry{ID: dedup.NewID(scope, id), Scope: scope, EventID: id, Digest: dedup.NewDigest(msg.Payload)}}
	claim, err := strategy.Claim(t.Context(), []*dedup.Event{event})
	require.NoError(t, err)
	return event, claim
}

func strategyOn(ledger dedup.Ledger) *dedup.LedgerStrategy {
	return dedup.NewLedgerStrategy(ledger, &publications{}, dedup.LedgerOptions{Lease: lease, Logger: slog.New(slog.DiscardHandler)})
}

// outside hides that a ledger ends with its claimants.
type outside struct{ dedup.Ledger }

// A handler that runs ten times as long as the lease keeps it, because of the
// heartbeat: nobody takes over, and its commit stands.
func TestHeartbeatKeepsTheLeaseOfASlowHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		strategy := strategyOn(outside{memory.New(memory.Config{})})
		defer strategy.Close()
		_, claim := claimOne(t, strategy, "1")
		ctx := claim.Context(t.Context())
		for range 100 {
			time.Sleep(lease / 10)
			event, other := claimOne(t, strategy, "1")
			require.Equal(t, dedup.InFlight, event.Verdict)
			require.Nil(t, other)
		}
		require.NoError(t, ctx.Err())
		require.NoError(t, claim.Commit(ctx, nil))
		event, _ := claimOne(t, strategy, "1")
		require.Equal(t, dedup.Duplicate, event.Verdict)
	})
}

// Claims that began at any time of a round, whichever list they stand in, keep
// their leases until they end.
func TestHeartbeatKeepsTheLeasesOfManySlowHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := outside{memory.New(memory.Config{})}
		strategy, other := strategyOn(ledger), strategyOn(ledger)
		defer strategy.Close()
		defer other.Close()
		claims := map[string]dedup.Claim{}
		for i := range 100 {
			id := fmt.Sprint(i)
			_, claims[id] = claimOne(t, strategy, id)
			time.Sleep(lease / 97)
		}
		for range 60 {
			time.Sleep(lease / 20)
			for id := range claims {
				event, _ := claimOne(t, other, id)
				require.Equal(t, dedup.InFlight, event.Verdict)
			}
		}
		for id, claim := range claims {
			require.NoError(t, claim.Commit(t.Context(), nil))
			event, _ := claimOne(t, other, id)
			require.Equal(t, dedup.Duplicate, event.Verdict)
		}
	})
}

// A renewal that fails once says nothing about a lease that was taken a moment ago, however
// long the strategy has been at work.
func TestOneFailedRenewalLosesNoYoungLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failures atomic.Int64
		strategy := strategyOn(outside{broken{Ledger: memory.New(memory.Config{}), renew: func([]*dedup.Entry) error {
			failures.Add(1)
			return errInjected
		}}})
		defer strategy.Close()
		_, first := claimOne(t, strategy, "1") // begins the heartbeat
		require.NoError(t, first.Commit(t.Context(), nil))
		time.Sleep(3*lease + time.Second)
		_, claim := claimOne(t, strategy, "2")
		ctx := claim.Context(t.Context())
		time.Sleep(lease / 2)
		require.Positive(t, failures.Load())
		require.NoError(t, context.Cause(ctx))
		require.NoError(t, claim.Commit(ctx, nil))
	})
}

// A process that stood still for longer than its lease (SIGSTOP, a long pause of
// the machine) sent no heartbeat; another worker took over and committed. When it
// wakes it asks the ledger before it publishes, and publishes nothing.
func TestAZombiePublishesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger, published := outside{memory.New(memory.Config{})}, &publications{}
		zombie := dedup.NewLedgerStrategy(ledger, published, dedup.LedgerOptions{Lease: lease})
		_, claim := claimOne(t, zombie, "1")
		require.NoError(t, zombie.Close()) // no more heartbeats
		time.Sleep(lease + 1)

		other := strategyOn(ledger)
		defer other.Close()
		event, taken := claimOne(t, other, "1")
		require.Equal(t, dedup.Fresh, event.Verdict)
		require.NoError(t, taken.Commit(t.Context(), nil))

		outputs := []dedup.Output{{Topic: "shipments", Message: order("2")}}
		require.ErrorIs(t, claim.Commit(t.Context(), outputs), dedup.ErrLeaseLost)
		require.ErrorIs(t, claim.Commit(t.Context(), nil), dedup.ErrLeaseLost)
		require.Empty(t, published.ids())
		claim.Release(t.Context())
		event, _ = claimOne(t, other, "1")
		require.Equal(t, dedup.Duplicate, event.Verdict, "the zombie's release must not touch the mark")
	})
}

// A ledger in the process keeps a claim until it is over, with no heartbeat that could
// come too late: nobody takes over from a handler that still runs.
func TestAResidentLedgerKeepsTheClaimsOfTheLiving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := memory.New(memory.Config{Window: lease})
		strategy, other := strategyOn(ledger), strategyOn(ledger)
		_, claim := claimOne(t, strategy, "1")
		require.NoError(t, strategy.Close())
		for range 10 {
			time.Sleep(lease)
			event, _ := claimOne(t, other, "1")
			require.Equal(t, dedup.InFlight, event.Verdict)
		}
		claim.Release(t.Context())
		event, claim := claimOne(t, other, "1")
		require.Equal(t, dedup.Fresh, event.Verdict)
		require.NoError(t, claim.Commit(t.Context(), nil))
		event, _ = claimOne(t, strategy, "1")
		require.Equal(t, dedup.Duplicate, event.Verdict)
		time.Sleep(lease)
		event, _ = claimOne(t, strategy, "1")
		require.Equal(t, dedup.Fresh, event.Verdict, "the mark's window is over")
	})
}

// Heartbeats that do not get through for a whole lease end the handler's context
// with the reason; so does one that finds the lease taken.
func TestALostLeaseEndsTheHandlersContext(t *testing.T) {
	for name, renew := range map[string]func([]*dedup.Entry) error{
		"ledger away": func([]*dedup.Entry) error { return errInjected },
		"taken over": func(entries []*dedup.Entry) error {
			for _, entry := range entries {
				entry.Lost = true
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				strategy := strategyOn(broken{Ledger: memory.New(memory.Config{}), renew: renew})
				defer strategy.Close()
				_, claim := claimOne(t, strategy, "1")
				ctx := claim.Context(t.Context())
				require.NoError(t, ctx.Err())
				child, cancel := context.WithTimeout(ctx, 10*lease)
				defer cancel()
				<-child.Done()
				require.ErrorIs(t, context.Cause(child), dedup.ErrLeaseLost)
				require.ErrorIs(t, context.Cause(ctx), dedup.ErrLeaseLost)
				require.ErrorIs(t, claim.Commit(ctx, nil), dedup.ErrLeaseLost)
			})
		})
	}
}

// A heartbeat that is under way while the commit marks finds the lease gone; it
// must not take a committed claim for a lost one, nor say so.
func TestAHeartbeatBehindTheMarkLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, answer := make(chan struct{}), make(chan struct{})
		store := memory.New(memory.Config{})
		ledger := broken{Ledger: store, renew: func(entries []*dedup.Entry) error {
			close(asked)
			<-answer
			defer func() { require.True(t, entries[0].Lost) }()
			return store.Renew(t.Context(), lease, entries)
		}}
		said := &written.Text{}
		strategy := dedup.NewLedgerStrategy(ledger, &publications{}, dedup.LedgerOptions{Lease: lease, Logger: slog.New(slog.NewTextHandler(said, nil))})
		defer strategy.Close()
		_, claim := claimOne(t, strategy, "1")
		ctx := claim.Context(t.Context())
		done := ctx.Done()
		<-asked
		require.NoError(t, claim.Commit(ctx, nil))
		<-done // the claim is over: its context is freed, without a cause
		require.NotErrorIs(t, context.Cause(ctx), dedup.ErrLeaseLost)
		close(answer)
		synctest.Wait()
		require.Empty(t, said.String())
	})
}

// The heartbeat tells the claims of a round apart: the handler whose lease was taken over
// is told at once, and no other.
func TestOneLostLeaseAmongOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		strategy := strategyOn(broken{Ledger: memory.New(memory.Config{}), renew: func(entries []*dedup.Entry) error {
			for _, entry := range entries {
				entry.Lost = entry.EventID == "1"
			}
			return nil
		}})
		defer strategy.Close()
		claims, contexts := make([]dedup.Claim, 4), make([]context.Context, 4)
		for i := range claims {
			_, claims[i] = claimOne(t, strategy, fmt.Sprint(i))
			contexts[i] = claims[i].Context(t.Context())
		}
		time.Sleep(lease / 2) // before any lease has run out
		for i, ctx := range contexts {
			require.Equal(t, i == 1, ctx.Err() != nil, "event %d", i)
			claims[i].Release(t.Context())
		}
	})
}

// A ledger that does not answer must not keep the heartbeat waiting for ever: the handler
// has to hear that its lease is over.
func TestARenewalWithoutAnAnswerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		strategy := strategyOn(silent{memory.New(memory.Config{})})
		_, claim := claimOne(t, strategy, "1")
		ctx := claim.Context(t.Context())
		defer func() { require.NoError(t, strategy.Close()) }()
		time.Sleep(2 * lease)
		require.Error(t, ctx.Err())
		require.ErrorIs(t, context.Cause(ctx), dedup.ErrLeaseLost)
		require.ErrorIs(t, claim.Commit(ctx, nil), dedup.ErrLeaseLost)
	})
}

// silent is a ledger whose renewals get no answer.
type silent struct{ dedup.Ledger }

func (silent) Renew(ctx context.Context, _ time.Duration, _ []*dedup.Entry) error {
	<-ctx.Done()
	return ctx.Err()
}

// What has ended, either way, is not renewed any more; nor does it take room.
func TestTheHeartbeatForgetsWhatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		renewed := map[string]bool{}
		strategy := strategyOn(broken{Ledger: memory.New(memory.Config{}), renew: func(entries []*dedup.Entry) error {
			for _, entry := range entries {
				renewed[entry.EventID] = true
			}
			return nil
		}})
		defer strategy.Close()
		for _, id := range []string{"committed", "released", "running"} {
			_, claim := claimOne(t, strategy, id)
			switch id {
			case "committed":
				require.NoError(t, claim.Commit(t.Context(), nil))
			case "released":
				claim.Release(t.Context())
			default:
				defer claim.Release(t.Context())
			}
		}
		time.Sleep(lease)
		synctest.Wait()
		require.Equal(t, map[string]bool{"running": true}, renewed)
	})
}

// A worker that cannot find out whether its lease still stands publishes nothing.
func TestALeaseThatCannotBeConfirmedPublishesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		published := &publications{}
		ledger := broken{Ledger: memory.New(memory.Config{}), renew: func([]*dedup.Entry) error { return errInjected }}
		strategy := dedup.NewLedgerStrategy(ledger, published, quiet)
		_, claim := claimOne(t, strategy, "1")
		require.NoError(t, strategy.Close()) // no more heartbeats
		time.Sleep(time.Hour)
		require.ErrorIs(t, claim.Commit(t.Context(), []dedup.Output{{Topic: "shipments", Message: order("2")}}), errInjected)
		require.Empty(t, published.ids())
		claim.Release(t.Context())
	})
}

// The ledger may be closed once the strategy is: no heartbeat is under way any more.
func TestCloseWaitsForTheHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, answer := make(chan struct{}), make(chan struct{})
		strategy := strategyOn(broken{Ledger: memory.New(memory.Config{}), renew: func([]*dedup.Entry) error {
			close(asked)
			<-answer
			return nil
		}})
		_, claim := claimOne(t, strategy, "1")
		<-asked
		closed := make(chan error, 1)
		go func() { closed <- strategy.Close() }()
		synctest.Wait()
		require.Empty(t, closed)
		close(answer)
		require.NoError(t, <-closed)
		claim.Release(t.Context())
	})
}

// One heartbeat serves all claims, and Close may be called again.
func TestThereIsOneHeartbeat(t *testing.T) {
	strategy := strategyOn(outside{memory.New(memory.Config{})})
	_, first := claimOne(t, strategy, "first")
	first.Release(t.Context())
	before := runtime.NumGoroutine()
	for i := range 100 {
		_, claim := claimOne(t, strategy, fmt.Sprint(i))
		claim.Release(t.Context())
	}
	require.Less(t, runtime.NumGoroutine(), before+50)
	require.NoError(t, strategy.Close())
	require.NoError(t, strategy.Close())
}
