package coalesce_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/coalesce"
)

func TestAnErrorGoesToEveryCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newRemote(time.Millisecond)
		store.fail = errors.New("connection reset")
		ledger := coalesce.New(store)
		var calls sync.WaitGroup
		var failed atomic.Int32
		for i := range 10 {
			calls.Go(func() {
				entries := event(fmt.Sprint(i))
				if errors.Is(ledger.Claim(t.Context(), time.Minute, entries), store.fail) && entries[0].Verdict == dedup.Undecided {
					failed.Add(1)
				}
			})
		}
		calls.Wait()
		require.EqualValues(t, 10, failed.Load())
		require.LessOrEqual(t, store.trips.Load(), int32(2))
	})
}

// answering is a store that gives one error to every call, or no answer at all.
type answering struct {
	dedup.Ledger
	fail error // nil: none
}

func (a answering) answer(ctx context.Context) error {
	if a.fail == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	return a.fail
}

func (a answering) Claim(ctx context.Context, _ time.Duration, _ []*dedup.Entry) error {
	return a.answer(ctx)
}

func (a answering) Renew(ctx context.Context, _ time.Duration, _ []*dedup.Entry) error {
	return a.answer(ctx)
}

func (a answering) Complete(ctx context.Context, _ []*dedup.Entry) error { return a.answer(ctx) }

func (a answering) Release(ctx context.Context, _ []*dedup.Entry) error { return a.answer(ctx) }

func (a answering) Close() error { return a.fail }

// A mark that the store has refused must not pass for one that it has made; and a store that
// does not answer must not hold up a lane for ever.
func TestEveryCallHasItsOwnOutcome(t *testing.T) {
	reset := errors.New("connection reset")
	for name, call := range map[string]func(context.Context, *coalesce.Ledger) error{
		"claim":    func(ctx context.Context, l *coalesce.Ledger) error { return l.Claim(ctx, time.Minute, event("order")) },
		"renew":    func(ctx context.Context, l *coalesce.Ledger) error { return l.Renew(ctx, time.Minute, event("order")) },
		"complete": func(ctx context.Context, l *coalesce.Ledger) error { return l.Complete(ctx, event("order")) },
		"release":  func(ctx context.Context, l *coalesce.Ledger) error { return l.Release(ctx, event("order")) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				failing := coalesce.New(answering{fail: reset})
				require.ErrorIs(t, call(t.Context(), failing), reset)
				require.ErrorIs(t, failing.Close(), reset)

				silent := coalesce.New(answering{}, coalesce.Timeout(5*time.Second))
				start := time.Now()
				require.ErrorIs(t, call(t.Context(), silent), context.DeadlineExceeded)
				require.Equal(t, 5*time.Second, time.Since(start))
				leaving, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				require.ErrorIs(t, call(leaving, silent), context.DeadlineExceeded)
				require.Equal(t, 6*time.Second, time.Since(start))
				require.NoError(t, silent.Close())
			})
		})
	}
}
