package database_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/database"
)

func entry(name string) *dedup.Entry {
	return &dedup.Entry{
		ID: dedup.NewID(dedup.Scope{Service: "test"}, name), Digest: dedup.NewDigest([]byte(name)),
		Token: dedup.NextToken(), EventID: name,
	}
}

// The trap: one copy claims before the turn and the other after it. In every
// stage there is one owner, and it completes where the other one looks.
func TestCopiesOnBothSidesOfATurnMeet(t *testing.T) {
	onServers(t, func(t *testing.T, s server) {
		table := s.tables(t)
		one := s.open(t, table, database.Config{Upkeep: -1, RunMarks: 1})
		two := s.open(t, table, database.Config{Upkeep: -1, RunMarks: 1})
		claim := func(ledger *database.Ledger, name string) (*dedup.Entry, dedup.Verdict) {
			claimed := entry(name)
			require.NoError(t, ledger.Claim(t.Context(), time.Minute, []*dedup.Entry{claimed}))
			return claimed, claimed.Verdict
		}
		complete := func(ledger *database.Ledger, claimed *dedup.Entry) {
			require.NoError(t, ledger.Complete(t.Context(), []*dedup.Entry{claimed}))
			require.False(t, claimed.Lost, claimed.EventID)
		}
		for round := range 3 {
			first, verdict := claim(one, fmt.Sprint("first-", round)) // makes the turn due
			require.Equal(t, dedup.Fresh, verdict)
			complete(one, first)
			owner, verdict := claim(one, fmt.Sprint("owner-", round))
			require.Equal(t, dedup.Fresh, verdict)
			for stage := 0; ; stage++ { // turn, pack, seal, clear
				more, err := two.Step(t.Context())
				require.NoError(t, err)
				_, verdict := claim(two, owner.EventID)
				require.Equal(t, dedup.InFlight, verdict, "stage %d", stage)
				_, verdict = claim(two, first.EventID)
				require.Equal(t, dedup.Duplicate, verdict, "stage %d", stage)
				complete(one, first) // again: its answer was lost
				if stage == 1 {
					complete(one, owner)
					owner, verdict = claim(one, fmt.Sprint("next-", round))
					require.Equal(t, dedup.Fresh, verdict)
				}
				if !more || stage > 3 {
					break
				}
			}
			complete(one, owner)
			_, verdict = claim(two, owner.EventID)
			require.Equal(t, dedup.Duplicate, verdict)
		}
	})
}

// Turns while many claim copies of the same IDs: each is fresh once.
func TestClaimsRaceWithTurns(t *testing.T) {
	onServers(t, func(t *testing.T, s server) {
		table := s.tables(t)
		const count, workers = 300, 6
		var mutex sync.Mutex
		completed := map[string]int{}
		done := make(chan struct{})
		var turning, running sync.WaitGroup
		turns := 0
		keeper := s.open(t, table, database.Config{Upkeep: -1, RunMarks: 1})
		turning.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := keeper.Step(t.Context()); err == nil {
					turns++
				}
			}
		})
		errs := make([]error, workers)
		for worker := range errs {
			ledger := s.open(t, table, database.Config{Upkeep: -1})
			running.Go(func() {
				for i := range count {
					claimed := entry(fmt.Sprint("order-", (i+worker)%count))
					if errs[worker] = ledger.Claim(t.Context(), time.Minute, []*dedup.Entry{claimed}); errs[worker] != nil {
						return
					}
					if claimed.Verdict != dedup.Fresh {
						continue
					}
					if errs[worker] = ledger.Complete(t.Context(), []*dedup.Entry{claimed}); errs[worker] != nil {
						return
					}
					mutex.Lock()
					completed[claimed.EventID]++
					mutex.Unlock()
				}
			})
		}
		running.Wait()
		close(done)
		turning.Wait()
		require.NoError(t, errors.Join(errs...))
		require.Greater(t, turns, 10)
		require.Len(t, completed, count)
		for name, times := range completed {
			require.Equal(t, 1, times, name)
		}
	})
}

// Runs whose window is over leave, rows and all, and their IDs are new.
func TestExpiredRunsLeave(t *testing.T) {
	onServers(t, func(t *testing.T, s server) {
		var clock skew
		ledger := s.open(t, s.tables(t), database.Config{Upkeep: -1, RunMarks: 100, Window: time.Hour, Clock: clock.Ahead})
		batch := func() (entries []*dedup.Entry) {
			for i := range 500 {
				entries = append(entries, entry(fmt.Sprint("order-", i)))
			}
			require.NoError(t, ledger.Claim(t.Context(), time.Minute, entries))
			return entries
		}
		rows := func(table string) (count int) {
			require.NoError(t, s.connect(t).QueryRow(`SELECT COUNT(*) FROM `+table).Scan(&count))
			return count
		}
		marked := batch()
		require.NoError(t, ledger.Complete(t.Context(), marked))
		require.NoError(t, ledger.Maintain(t.Context()))
		tables := ledger.Tables()
		require.Equal(t, []int{1, 32, 0, 0}, []int{rows(tables[2]), rows(tables[3]), rows(tables[4]), rows(tables[5])})
		for _, again := range batch() {
			require.Equal(t, dedup.Duplicate, again.Verdict)
		}
		clock.Advance(time.Hour)
		for _, again := range batch() {
			require.Equal(t, dedup.Fresh, again.Verdict)
		}
		require.NoError(t, ledger.Maintain(t.Context()))
		require.Equal(t, []int{0, 0}, []int{rows(tables[2]), rows(tables[3])})
	})
}
