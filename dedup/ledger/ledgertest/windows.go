package ledgertest

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
)

var windows = []check{
	{"windows/a mark lasts its window, then the ID is new", shortWindow, func(s *store) {
		done := s.event("order")
		s.claims(dedup.Fresh, done)
		deadline := s.now() + s.window
		s.completes(false, done)
		s.advance(s.window * 3 / 4)
		s.until(deadline, dedup.Duplicate, again(done))
		s.advance(s.window / 4)
		next := s.expired(s.Slack, done, longLease)
		s.completes(true, retry(done))
		s.completes(false, next)
		s.claims(dedup.Duplicate, again(done))
	}},
	{"windows/count from the completion", shortWindow, func(s *store) {
		owner := s.event("order")
		s.claims(dedup.Fresh, owner)
		s.advance(s.window * 3 / 4)
		deadline := s.now() + s.window
		s.completes(false, owner)
		s.advance(s.window * 3 / 4)
		s.until(deadline, dedup.Duplicate, again(owner))
	}},
	// A store that keeps marks in generations has to look into all that live.
	// Whatever its generations are, two windows in steps of an eighth cross the
	// border between two of them with one copy running and another arriving.
	{"windows/copies on both sides of a boundary meet", shortWindow, func(s *store) {
		for step := range 16 {
			owner := s.event(fmt.Sprint("order-", step))
			s.claims(dedup.Fresh, owner)
			s.advance(s.window / 8)
			s.claims(dedup.InFlight, again(owner))
			deadline := s.now() + s.window
			s.completes(false, owner)
			s.advance(s.window / 8)
			s.until(deadline, dedup.Duplicate, again(owner))
		}
	}},
	{"windows/copies racing across the end of a mark meet", shortWindow, func(s *store) {
		done := s.processed("order")
		fresh := s.raceAcross(done)
		require.Len(s, fresh, 1, "copies found fresh at the end of the window")
		s.completes(false, fresh[0])
		s.claims(dedup.Duplicate, again(done))
	}},
}

// raceAcross has copies of the event claimed all the time while its window runs
// out, and returns those that were fresh.
func (s *store) raceAcross(done *dedup.Entry) (fresh []*dedup.Entry) {
	s.Helper()
	var (
		over    atomic.Bool
		mutex   sync.Mutex
		problem error
		workers sync.WaitGroup
	)
	for range 8 {
		workers.Go(func() {
			for last := false; !last; runtime.Gosched() {
				last = over.Load() // read first: everyone claims once after the end
				next := again(done)
				err := s.Ledger.Claim(s.Context(), longLease, []*dedup.Entry{next})
				mutex.Lock()
				if next.Verdict == dedup.Fresh {
					fresh = append(fresh, next)
				}
				if err != nil {
					problem, last = err, true
				}
				mutex.Unlock()
			}
		})
	}
	for range 8 {
		s.advance((s.window + s.Slack) / 8)
	}
	over.Store(true)
	workers.Wait()
	require.NoError(s, problem)
	return fresh
}
