package memory_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/ledgertest"
	"github.com/hapax-go/hapax/dedup/ledger/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a clock that tests set.
type clock struct {
	mutex sync.Mutex
	now   time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_700_000_000, 0)} }

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

func TestConformance(t *testing.T) {
	ledgertest.Run(t, func(_ *testing.T, options ledgertest.Options) ledgertest.Harness {
		clock := newClock()
		ledger := memory.New(memory.Config{Window: options.Window, Now: clock.Now})
		return ledgertest.Harness{Ledger: ledger, Advance: clock.Advance}
	})
}

// TestConformanceInRealTime also shows that the suite serves stores whose clock
// nobody can set.
func TestConformanceInRealTime(t *testing.T) {
	ledgertest.Run(t, func(_ *testing.T, options ledgertest.Options) ledgertest.Harness {
		return ledgertest.Harness{Ledger: memory.New(memory.Config{Window: options.Window})}
	})
}

func events(name string, count int) []*dedup.Entry {
	entries := make([]*dedup.Entry, count)
	for i := range entries {
		id := fmt.Sprint(name, i)
		entries[i] = &dedup.Entry{ID: dedup.NewID(dedup.Scope{Service: "s", Handler: "h"}, id), Token: dedup.NextToken()}
	}
	return entries
}

func process(t *testing.T, ledger *memory.Ledger, entries []*dedup.Entry) {
	t.Helper()
	require.NoError(t, ledger.Claim(t.Context(), time.Minute, entries))
	for _, entry := range entries {
		require.Equal(t, dedup.Fresh, entry.Verdict)
	}
	require.NoError(t, ledger.Complete(t.Context(), entries))
	for _, entry := range entries {
		require.False(t, entry.Lost)
	}
}

func TestFullLedgerRefusesAndForgetsNothing(t *testing.T) {
	clock := newClock()
	ledger := memory.New(memory.Config{Window: time.Hour, MaxEntries: 100, Now: clock.Now})
	old := events("old", 98)
	process(t, ledger, old)

	more := events("more", 5) // two fit
	err := ledger.Claim(t.Context(), time.Minute, more)
	require.ErrorIs(t, err, memory.ErrFull)
	require.EqualError(t, err, "claim 5 events: memory ledger is full: it keeps 98 marks and leases and may keep 100: "+
		"raise MaxEntries, shorten the window, or use a ledger outside the process")
	for _, entry := range more {
		require.Equal(t, dedup.Undecided, entry.Verdict)
	}

	require.NoError(t, ledger.Claim(t.Context(), time.Minute, old))
	for _, entry := range old {
		require.Equal(t, dedup.Duplicate, entry.Verdict, "a full ledger still knows its marks")
	}
	process(t, ledger, more[:2]) // the refused call holds nothing

	clock.Advance(time.Hour)
	process(t, ledger, more[2:])
	require.Equal(t, 3, ledger.Len(), "making room removed what had expired")
}

// TestRoomIsNotLostBetweenShards fills a ledger of more entries than all shards take
// room for at a time, to the last one, with entries that are released in between.
func TestRoomIsNotLostBetweenShards(t *testing.T) {
	const entries = 70_000
	ledger := memory.New(memory.Config{MaxEntries: entries})
	released := events("released", entries/2)
	require.NoError(t, ledger.Claim(t.Context(), time.Minute, released))
	require.NoError(t, ledger.Release(t.Context(), released))
	require.Zero(t, ledger.Len())
	process(t, ledger, events("kept", entries))
	require.Equal(t, entries, ledger.Len())
	require.ErrorIs(t, ledger.Claim(t.Context(), time.Minute, events("more", 1)), memory.ErrFull)
}

// TestExpectWhileTheIndexGrows: a hint may meet an index in any state.
func TestExpectWhileTheIndexGrows(t *testing.T) {
	ledger, entries := memory.New(memory.Config{}), events("one", 20_000)
	ledger.Expect(entries[0].ID) // there is no index yet
	var expecting sync.WaitGroup
	expecting.Go(func() {
		for _, entry := range entries {
			ledger.Expect(entry.ID)
		}
	})
	process(t, ledger, entries)
	expecting.Wait()
}

// TestMarksAreRemovedAsTheyExpire runs ten windows at a steady rate.
func TestMarksAreRemovedAsTheyExpire(t *testing.T) {
	const steps, each = 100, 1000
	clock := newClock()
	ledger := memory.New(memory.Config{Window: time.Hour, Now: clock.Now})
	largest := 0
	for step := range steps {
		process(t, ledger, events(fmt.Sprint(step, "-"), each))
		clock.Advance(time.Hour / 10)
		largest = max(largest, ledger.Len())
	}
	require.Less(t, largest, 13*each, "a window holds %d marks", 10*each)
	require.GreaterOrEqual(t, ledger.Len(), 9*each)
}

// TestAnIDIsReusedAfterItsWindow makes an ID's new mark outlive the place that
// its old one had in the queue of expiry.
func TestAnIDIsReusedAfterItsWindow(t *testing.T) {
	clock := newClock()
	ledger := memory.New(memory.Config{Window: time.Hour, Now: clock.Now})
	for round := range 20 {
		again := events("same", 500)
		process(t, ledger, again)
		clock.Advance(time.Hour * 3 / 4)
		require.NoError(t, ledger.Claim(t.Context(), time.Minute, again))
		for _, entry := range again {
			require.Equal(t, dedup.Duplicate, entry.Verdict, "round %d", round)
		}
		clock.Advance(time.Hour / 4)
		require.LessOrEqual(t, ledger.Len(), 500)
	}
}

func TestAbandonedLeasesAreForgottenAWindowLater(t *testing.T) {
	clock := newClock()
	ledger := memory.New(memory.Config{Window: time.Hour, Now: clock.Now})
	for round := range 20 {
		require.NoError(t, ledger.Claim(t.Context(), time.Minute, events(fmt.Sprint(round, "-"), 20_000)))
		clock.Advance(30 * time.Minute)
	}
	require.Less(t, ledger.Len(), 200_000, "of 400,000 abandoned leases, 60,000 ran out less than a window ago")
}
