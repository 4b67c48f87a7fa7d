package handlers_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/memory"
	"github.com/hapax-go/hapax/handlers"
)

// charging is a handler that charges once and then may fail.
type charging struct {
	mu      sync.Mutex
	charges []string // their keys
	fail    error    // of the charge
	after   error    // of what comes after it
}

func (c *charging) handle(ctx context.Context, o order) error {
	err := handlers.Once(ctx, "charge", func(_ context.Context, key string) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.fail == nil {
			c.charges = append(c.charges, key)
		}
		return c.fail
	})
	return errors.Join(err, c.after)
}

func (c *charging) deliver(t *testing.T, ledger dedup.Ledger, id string) error {
	t.Helper()
	typed, err := handlers.Adapt(c.handle, handlers.Options{Logger: quiet})
	require.NoError(t, err)
	run, _ := inside(t, handlers.Journal(ledger)(typed.Single))
	msg := message.NewMessage(id, []byte(`{"id":"`+id+`"}`))
	_, err = run(msg)
	return err
}

func TestAnEffectThatSucceededIsNotRepeated(t *testing.T) {
	ledger := memory.New(memory.Config{})
	boom := errors.New("boom")
	c := &charging{fail: boom}
	require.ErrorIs(t, c.deliver(t, ledger, "1"), boom)
	require.Empty(t, c.charges)

	c.fail, c.after = nil, boom // charged, then the handler fails
	require.ErrorIs(t, c.deliver(t, ledger, "1"), boom)
	require.ErrorIs(t, c.deliver(t, ledger, "1"), boom)
	c.after = nil
	require.NoError(t, c.deliver(t, ledger, "1"))
	require.Len(t, c.charges, 1)

	require.NoError(t, c.deliver(t, ledger, "2"))
	require.Len(t, c.charges, 2)
	require.NotEqual(t, c.charges[0], c.charges[1])
}

// Between the effect and the journal: the effect again, with the same key.
func TestAnEffectThatCouldNotBeNotedHasTheSameKey(t *testing.T) {
	ledger := &forgetful{Ledger: memory.New(memory.Config{}), err: errors.New("server is gone")}
	c := &charging{}
	require.ErrorIs(t, c.deliver(t, ledger, "1"), ledger.err)
	require.NoError(t, ledger.release(t))
	ledger.err = nil
	require.NoError(t, c.deliver(t, ledger, "1"))
	require.NoError(t, c.deliver(t, ledger, "1"))
	require.Len(t, c.charges, 2)
	require.Equal(t, c.charges[0], c.charges[1])
}

// forgetful fails to complete while err is set.
type forgetful struct {
	dedup.Ledger
	err   error
	claim []*dedup.Entry
}

func (f *forgetful) Complete(ctx context.Context, entries []*dedup.Entry) error {
	if f.claim = entries; f.err != nil {
		return f.err
	}
	return f.Ledger.Complete(ctx, entries)
}

// release stands for the lease that runs out.
func (f *forgetful) release(t *testing.T) error { return f.Ledger.Release(t.Context(), f.claim) }

// A claim whose answer was lost holds up no other run.
func TestAClaimWithoutAnswerIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := &deaf{Ledger: memory.New(memory.Config{}), err: errors.New("connection reset")}
		c := &charging{}
		require.ErrorIs(t, c.deliver(t, ledger, "1"), ledger.err)
		require.Empty(t, c.charges)
		ledger.err = nil
		began := time.Now()
		require.NoError(t, c.deliver(t, ledger, "1"))
		require.Zero(t, time.Since(began), "nobody has the lease")
		require.Len(t, c.charges, 1)
	})
}

// deaf does not hear the answers to claims while err is set.
type deaf struct {
	dedup.Ledger
	err error
}

func (d *deaf) Claim(ctx context.Context, lease time.Duration, entries []*dedup.Entry) error {
	return errors.Join(d.Ledger.Claim(ctx, lease, entries), d.err)
}

// A second run waits for the first, however long that takes, and then has nothing
// to do; one that panics leaves the effect to the next.
func TestRunsOfAnEffectExcludeEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := memory.New(memory.Config{})
		var mu sync.Mutex
		charges := 0
		typed, err := handlers.Adapt(func(ctx context.Context, o order) error {
			return handlers.Once(ctx, "charge", func(context.Context, string) error {
				time.Sleep(10 * time.Minute) // of virtual time: many leases
				mu.Lock()
				defer mu.Unlock()
				if charges++; charges == 1 {
					panic("boom")
				}
				return nil
			})
		}, handlers.Options{Logger: quiet})
		require.NoError(t, err)
		var runs sync.WaitGroup
		results := make([]error, 3)
		for i := range results {
			runs.Go(func() {
				run, _ := inside(t, handlers.Journal(ledger)(typed.Single))
				_, results[i] = run(message.NewMessage("1", []byte(`{"id":"1"}`)))
			})
		}
		runs.Wait()
		require.ErrorContains(t, errors.Join(results...), "boom")
		require.Equal(t, 2, charges)
	})
}

// late is a ledger in memory whose heartbeats come too late, as they may where the
// processors are busy, or the process was stopped for a while.
type late struct{ *memory.Ledger }

func (late) Renew(context.Context, time.Duration, []*dedup.Entry) error { return nil }

// With a journal in memory no run takes over from one that still goes on.
func TestALateHeartbeatLetsNoOtherRunIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := late{memory.New(memory.Config{})}
		var running, together, charges atomic.Int32
		typed, err := handlers.Adapt(func(ctx context.Context, o order) error {
			return handlers.Once(ctx, "charge", func(context.Context, string) error {
				together.Store(max(together.Load(), running.Add(1)))
				defer running.Add(-1)
				time.Sleep(10 * time.Minute)
				charges.Add(1)
				return nil
			})
		}, handlers.Options{Logger: quiet})
		require.NoError(t, err)
		var runs sync.WaitGroup
		for range 2 {
			runs.Go(func() {
				run, _ := inside(t, handlers.Journal(ledger)(typed.Single))
				_, _ = run(message.NewMessage("1", []byte(`{"id":"1"}`)))
			})
		}
		runs.Wait()
		require.EqualValues(t, 1, together.Load(), "two runs at once")
		require.EqualValues(t, 1, charges.Load())
	})
}

func TestOnceSaysWhatIsMissing(t *testing.T) {
	require.ErrorContains(t, handlers.Once(t.Context(), "charge", nil), "no event in the context")
	c := &charging{}
	typed, err := handlers.Adapt(c.handle, handlers.Options{Logger: quiet})
	require.NoError(t, err)
	run, _ := inside(t, typed.Single)
	_, err = run(message.NewMessage("1", []byte(`{"id":"1"}`)))
	require.ErrorIs(t, err, handlers.ErrNoJournal)
}

// held is a ledger that another run of every effect holds; lost one whose marks find the
// lease taken over.
type held struct{ dedup.Ledger }

func (held) Claim(_ context.Context, _ time.Duration, entries []*dedup.Entry) error {
	entries[0].Verdict = dedup.InFlight
	return nil
}

type lost struct{ dedup.Ledger }

func (lost) Complete(_ context.Context, entries []*dedup.Entry) error {
	entries[0].Lost = true
	return nil
}

// strict refuses what is asked in a context that is over, as a store behind a connection
// does, and what nothing would end.
type strict struct{ dedup.Ledger }

func inTime(ctx context.Context) error {
	if deadline, bounded := ctx.Deadline(); !bounded || time.Until(deadline) > time.Minute {
		return errors.New("nothing ends this call")
	}
	return ctx.Err()
}

func (s strict) Complete(ctx context.Context, entries []*dedup.Entry) error {
	return errors.Join(inTime(ctx), s.Ledger.Complete(ctx, entries))
}

func (s strict) Release(ctx context.Context, entries []*dedup.Entry) error {
	if err := inTime(ctx); err != nil {
		return err
	}
	return s.Ledger.Release(ctx, entries)
}

// effect runs one effect for an event, within a delivery.
func effect(t *testing.T, ledger dedup.Ledger, delivery context.Context, run func() error) error {
	t.Helper()
	typed, err := handlers.Adapt(func(ctx context.Context, _ order) error {
		return handlers.Once(ctx, "charge", func(context.Context, string) error { return run() })
	}, handlers.Options{Logger: quiet})
	require.NoError(t, err)
	handle, _ := inside(t, handlers.Journal(ledger)(typed.Single))
	msg := message.NewMessage("1", []byte(`{}`))
	msg.SetContext(delivery)
	_, err = handle(msg)
	return err
}

// A service that stops does not wait for another run's effect.
func TestTheWaitForAnEffectEndsWithTheDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		err := effect(t, held{memory.New(memory.Config{})}, ctx, nil)
		require.ErrorContains(t, err, "another run of it has not ended: context deadline exceeded")
		require.Equal(t, time.Second, time.Since(start)) // of the bubble's clock
	})
}

// An effect whose lease was taken over was perhaps made twice: that is no success.
func TestAnEffectWhoseLeaseWasTakenOver(t *testing.T) {
	err := effect(t, lost{memory.New(memory.Config{})}, t.Context(), func() error { return nil })
	require.ErrorIs(t, err, dedup.ErrLeaseLost)
}

// What became of an effect is noted though the delivery is over: it was made all the same,
// or it may be made by the next.
func TestAnEffectIsNotedBehindTheDelivery(t *testing.T) {
	for name, fails := range map[string]error{"made": nil, "failed": errBoom} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ledger := strict{memory.New(memory.Config{})}
				delivery, over := context.WithCancel(t.Context())
				runs := 0
				require.ErrorIs(t, effect(t, ledger, delivery, func() error { runs++; over(); return fails }), fails)
				next, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				start := time.Now()
				require.NoError(t, effect(t, ledger, next, func() error { runs++; return nil }))
				require.Equal(t, fails != nil, runs == 2)
				require.Zero(t, time.Since(start), "nobody has the lease") // of the bubble's clock
			})
		})
	}
}
