package coalesce_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/coalesce"
	"github.com/hapax-go/hapax/dedup/ledger/ledgertest"
	"github.com/hapax-go/hapax/dedup/ledger/memory"
	"github.com/hapax-go/hapax/dedup/ledger/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a clock that tests set.
type clock struct {
	mutex sync.Mutex
	now   time.Time
}

func (c *clock) Now() time.Time {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.now = c.now.Add(d)
}

func TestConformanceOverMemory(t *testing.T) {
	ledgertest.Run(t, func(t *testing.T, options ledgertest.Options) ledgertest.Harness {
		clock := &clock{now: time.Unix(1_700_000_000, 0)}
		ledger := coalesce.New(memory.New(memory.Config{Window: options.Window, Now: clock.Now}))
		t.Cleanup(func() { require.NoError(t, ledger.Close()) })
		return ledgertest.Harness{Ledger: ledger, Advance: clock.Advance}
	})
}

func TestConformanceOverSQLite(t *testing.T) {
	ledgertest.Run(t, func(t *testing.T, options ledgertest.Options) ledgertest.Harness {
		clock := &clock{now: time.Unix(1_700_000_000, 0)}
		file := filepath.Join(t.TempDir(), "ledger.db")
		open := func() dedup.Ledger {
			db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(30000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_txlock=immediate")
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, db.Close()) })
			store, err := sqlite.Open(t.Context(), db, sqlite.Config{Window: options.Window, Now: clock.Now})
			require.NoError(t, err)
			ledger := coalesce.New(store)
			t.Cleanup(func() { require.NoError(t, ledger.Close()) })
			return ledger
		}
		return ledgertest.Harness{Ledger: open(), Peer: open, Reopen: open, Advance: clock.Advance}
	})
}

// remote is a ledger a round trip away. Under synctest the time is virtual.
type remote struct {
	dedup.Ledger
	trip    time.Duration
	fail    error
	trips   atomic.Int32
	largest atomic.Int32
	closed  atomic.Bool
}

func newRemote(trip time.Duration) *remote {
	return &remote{Ledger: memory.New(memory.Config{}), trip: trip}
}

func (r *remote) travel(ctx context.Context, entries []*dedup.Entry) error {
	r.trips.Add(1)
	r.largest.Store(max(r.largest.Load(), int32(len(entries))))
	select {
	case <-time.After(r.trip):
		return r.fail
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *remote) Claim(ctx context.Context, lease time.Duration, entries []*dedup.Entry) error {
	if err := r.travel(ctx, entries); err != nil {
		return err
	}
	return r.Ledger.Claim(ctx, lease, entries)
}

func (r *remote) Complete(ctx context.Context, entries []*dedup.Entry) error {
	if err := r.travel(ctx, entries); err != nil {
		return err
	}
	return r.Ledger.Complete(ctx, entries)
}

func (r *remote) Close() error {
	r.closed.Store(true)
	return r.Ledger.Close()
}

func event(name string) []*dedup.Entry {
	return []*dedup.Entry{{ID: dedup.NewID(dedup.Scope{}, name), Token: dedup.NextToken(), EventID: name}}
}

func TestConcurrentCallersShareRoundTrips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newRemote(time.Millisecond)
		ledger := coalesce.New(store)
		const callers, each = 64, 20
		start := time.Now()
		var workers sync.WaitGroup
		for caller := range callers {
			workers.Go(func() {
				for i := range each {
					entries := event(fmt.Sprint(caller, "-", i))
					if err := ledger.Claim(t.Context(), time.Minute, entries); err != nil || entries[0].Verdict != dedup.Fresh {
						t.Errorf("claim: %v, %s", err, entries[0].Verdict)
					}
				}
			})
		}
		workers.Wait()
		// One caller leaves alone and the rest together, in turns: each of them
		// waits for two trips at most.
		require.LessOrEqual(t, store.trips.Load(), int32(2*each+1), "%d calls", callers*each)
		require.LessOrEqual(t, time.Since(start), time.Duration(2*each+1)*time.Millisecond)
	})
}

func TestALoneCallerWaitsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newRemote(time.Millisecond)
		ledger := coalesce.New(store)
		for i := range 10 {
			start := time.Now()
			require.NoError(t, ledger.Claim(t.Context(), time.Minute, event(fmt.Sprint(i))))
			require.Equal(t, store.trip, time.Since(start))
		}
		require.EqualValues(t, 10, store.trips.Load())
	})
}

func TestLanesOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newRemote(time.Second)
		ledger := coalesce.New(store)
		held := event("held")
		require.NoError(t, ledger.Claim(t.Context(), time.Minute, held))
		start := time.Now()
		var calls sync.WaitGroup
		calls.Go(func() { _ = ledger.Claim(t.Context(), time.Minute, event("next")) })
		calls.Go(func() { _ = ledger.Complete(t.Context(), held) })
		calls.Wait()
		require.Equal(t, store.trip, time.Since(start))
		require.False(t, held[0].Lost)
	})
}

func TestBatchesKeepTheirBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newRemote(time.Millisecond)
		ledger := coalesce.New(store, coalesce.MaxBatch(10))
		claim := func(size int) {
			entries := make([]*dedup.Entry, size)
			for i := range entries {
				entries[i] = event(fmt.Sprint(dedup.NextToken()))[0]
			}
			if err := ledger.Claim(t.Context(), time.Minute, entries); err != nil {
				t.Error(err)
			}
		}
		var calls sync.WaitGroup
		for range 20 {
			calls.Go(func() { claim(3) })
		}
		calls.Wait()
		require.EqualValues(t, 9, store.largest.Load(), "calls are not split")
		claim(25)
		require.EqualValues(t, 25, store.largest.Load(), "one call is more than the bound: it goes alone")
	})
}

func TestLeasesAreNotMixed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := coalesce.New(newRemote(time.Second))
		var calls sync.WaitGroup
		for i := range 6 {
			calls.Go(func() { _ = ledger.Claim(t.Context(), time.Duration(1+i%2)*time.Hour, event(fmt.Sprint(i))) })
		}
		calls.Wait()
		time.Sleep(90 * time.Minute) // virtual
		for i := range 6 {
			entries := event(fmt.Sprint(i))
			require.NoError(t, ledger.Claim(t.Context(), time.Hour, entries))
			want := dedup.Fresh
			if i%2 == 1 {
				want = dedup.InFlight
			}
			require.Equal(t, want, entries[0].Verdict, "event %d", i)
		}
	})
}

func TestACallerMayLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newRemote(time.Minute)
		ledger := coalesce.New(store, coalesce.Timeout(time.Hour))
		leave := func() []*dedup.Entry {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			entries := event("left")
			start := time.Now()
			require.ErrorIs(t, ledger.Claim(ctx, time.Hour, entries), context.DeadlineExceeded)
			require.Equal(t, time.Second, time.Since(start))
			return entries
		}
		sent := leave()   // its batch is on its way
		queued := leave() // it has not left yet
		stays := event("stays")
		require.NoError(t, ledger.Claim(t.Context(), time.Hour, stays))
		require.Equal(t, dedup.Fresh, stays[0].Verdict)
		require.EqualValues(t, 2, store.trips.Load())
		require.EqualValues(t, 1, store.largest.Load(), "the queued call was dropped")
		require.Equal(t, dedup.Undecided, sent[0].Verdict, "a caller that has left is written nothing")

		require.NoError(t, ledger.Claim(t.Context(), time.Hour, queued))
		require.Equal(t, dedup.InFlight, queued[0].Verdict, "what was sent was applied")
		require.NoError(t, ledger.Claim(t.Context(), time.Hour, sent))
		require.Equal(t, dedup.Fresh, sent[0].Verdict, "asking again with the same token")
	})
}

// Who leaves and gives the lease back has given it back, though the claim was still on its
// way; and a mark that was on its way is made all the same.
func TestAReleaseComesAfterWhatItsCallerHasLeft(t *testing.T) {
	leaving := func(t *testing.T, call func(context.Context) error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		require.ErrorIs(t, call(ctx), context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start)) // of the bubble's clock
	}
	synctest.Test(t, func(t *testing.T) {
		ledger := coalesce.New(newRemote(10 * time.Second))
		sent, queued := event("sent"), event("queued")
		leaving(t, func(ctx context.Context) error { return ledger.Claim(ctx, time.Hour, sent) })
		leaving(t, func(ctx context.Context) error { return ledger.Claim(ctx, time.Hour, queued) })
		leaving(t, func(ctx context.Context) error { return ledger.Release(ctx, sent) })
		require.NoError(t, ledger.Release(t.Context(), append(sent, queued...)))
		for _, name := range []string{"sent", "queued"} {
			again := event(name)
			require.NoError(t, ledger.Claim(t.Context(), time.Hour, again))
			require.Equal(t, dedup.Fresh, again[0].Verdict, name)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ledger := coalesce.New(newRemote(10 * time.Second))
		marked := event("marked")
		require.NoError(t, ledger.Claim(t.Context(), time.Hour, marked))
		leaving(t, func(ctx context.Context) error { return ledger.Complete(ctx, marked) })
		require.NoError(t, ledger.Release(t.Context(), marked))
		again := event("marked")
		require.NoError(t, ledger.Claim(t.Context(), time.Hour, again))
		require.Equal(t, dedup.Duplicate, again[0].Verdict)
	})
}

func TestCloseDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newRemote(time.Second)
		ledger := coalesce.New(store)
		var calls sync.WaitGroup
		var fresh atomic.Int32
		for i := range 5 {
			calls.Go(func() {
				entries := event(fmt.Sprint(i))
				if ledger.Claim(t.Context(), time.Minute, entries) == nil && entries[0].Verdict == dedup.Fresh {
					fresh.Add(1)
				}
			})
		}
		synctest.Wait()
		calls.Go(func() { _ = ledger.Close() })
		synctest.Wait()
		require.ErrorIs(t, ledger.Claim(t.Context(), time.Minute, event("late")), coalesce.ErrClosed)
		require.False(t, store.closed.Load())
		calls.Wait()
		require.True(t, store.closed.Load())
		require.NoError(t, ledger.Close())
		require.EqualValues(t, 5, fresh.Load())
	})
}

// TestLeavingRacesWithAnswering is for the race detector: callers write to their
// entries as soon as they are back, whatever became of the batch.
func TestLeavingRacesWithAnswering(t *testing.T) {
	ledger := coalesce.New(newRemote(50 * time.Microsecond))
	defer func() { require.NoError(t, ledger.Close()) }()
	var callers sync.WaitGroup
	for caller := range 16 {
		callers.Go(func() {
			for i := range 200 {
				entries := event(fmt.Sprint(caller, "-", i))
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Microsecond)
				err := ledger.Claim(ctx, time.Minute, entries)
				cancel()
				if (err == nil) != (entries[0].Verdict == dedup.Fresh) {
					t.Errorf("error %v with verdict %s", err, entries[0].Verdict)
				}
				*entries[0] = dedup.Entry{}
			}
		})
	}
	callers.Wait()
}

// BenchmarkMemory is what a call costs beyond the store's.
func BenchmarkMemory(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprint("callers-", callers), func(b *testing.B) {
			ledger := coalesce.New(memory.New(memory.Config{}))
			b.SetParallelism(max(1, callers/2))
			b.ReportAllocs()
			if callers == 1 {
				for b.Loop() {
					_ = ledger.Claim(b.Context(), time.Minute, event("order"))
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					_ = ledger.Claim(b.Context(), time.Minute, event("order"))
				}
			})
		})
	}
}
