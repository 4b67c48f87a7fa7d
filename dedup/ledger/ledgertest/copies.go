package ledgertest

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
)

const (
	copyWorkers = 64
	copyBatch   = 50
	// patience is how long a worker waits for the outcome of another's claim.
	patience = 3 * time.Second
)

var copies = []check{
	// Scenario 9 of the acceptance tests, as far as the ledger goes.
	{"copies/a thousand IDs claimed by 64 workers at once are fresh once", longWindow, func(s *store) {
		events := s.events("order", batchSize)
		fresh, completed := make([]atomic.Int32, batchSize), make([]atomic.Int32, batchSize)
		s.together(copyWorkers, func(worker int, ledger dedup.Ledger) error {
			for start := 0; start < batchSize; start += copyBatch {
				// Every worker starts elsewhere, so that batches meet half-way.
				offset := (start + worker*37) % batchSize
				var batch, mine []*dedup.Entry
				var numbers []int
				for i := range copyBatch {
					batch = append(batch, again(events[(offset+i)%batchSize]))
				}
				if err := ledger.Claim(s.Context(), longLease, batch); err != nil {
					return err
				}
				for i, entry := range batch {
					if entry.Verdict == dedup.Fresh {
						mine = append(mine, entry)
						numbers = append(numbers, (offset+i)%batchSize)
					}
				}
				if err := ledger.Complete(s.Context(), mine); err != nil {
					return err
				}
				for i, entry := range mine {
					fresh[numbers[i]].Add(1)
					if !entry.Lost {
						completed[numbers[i]].Add(1)
					}
				}
			}
			return nil
		})
		for i := range events {
			require.EqualValues(s, 1, fresh[i].Load(), "times %s was fresh", events[i].EventID)
			require.EqualValues(s, 1, completed[i].Load(), "times %s was completed", events[i].EventID)
		}
	}},
	{"copies/workers that fail and retry complete each ID once (I3)", longWindow, func(s *store) {
		const count, workers = 50, 8
		events := s.events("order", count)
		completed := make([]atomic.Int32, count)
		s.together(workers, func(worker int, ledger dedup.Ledger) error {
			for i := range count {
				number := (i + worker*7) % count
				if err := s.process(ledger, events[number], &completed[number]); err != nil {
					return err
				}
			}
			return nil
		})
		for i := range events {
			require.EqualValues(s, 1, completed[i].Load(), "times %s was completed", events[i].EventID)
		}
	}},
}

// process runs one worker's deliveries of an event until it is marked. The first
// time it is fresh here its handler fails.
func (s *store) process(ledger dedup.Ledger, event *dedup.Entry, completed *atomic.Int32) error {
	deadline := time.Now().Add(patience)
	for failed := false; time.Now().Before(deadline); runtime.Gosched() {
		entry := again(event)
		if err := ledger.Claim(s.Context(), longLease, []*dedup.Entry{entry}); err != nil {
			return err
		}
		switch {
		case entry.Verdict == dedup.Duplicate:
			return nil
		case entry.Verdict == dedup.InFlight:
		case entry.Verdict != dedup.Fresh:
			return fmt.Errorf("verdict of %s: %s", entry.EventID, entry.Verdict)
		case !failed:
			failed = true
			if err := ledger.Release(s.Context(), []*dedup.Entry{entry}); err != nil {
				return err
			}
		default:
			if err := ledger.Complete(s.Context(), []*dedup.Entry{entry}); err != nil {
				return err
			}
			if entry.Lost {
				return fmt.Errorf("%s was lost while its lease lasted", entry.EventID)
			}
			if completed.Add(1) > 1 {
				return fmt.Errorf("%s was completed twice", entry.EventID)
			}
		}
	}
	return fmt.Errorf("%s was neither fresh nor a duplicate for %s", event.EventID, patience)
}

// together runs workers at once, spread over four connections to the store where
// it can be opened more than once.
func (s *store) together(count int, work func(worker int, ledger dedup.Ledger) error) {
	s.Helper()
	ledgers := []dedup.Ledger{s.Ledger}
	if s.Peer != nil {
		ledgers = append(ledgers, s.Peer(), s.Peer(), s.Peer())
	}
	var (
		workers sync.WaitGroup
		errs    = make([]error, count)
		start   = make(chan struct{})
	)
	for worker := range count {
		workers.Go(func() {
			<-start
			errs[worker] = work(worker, ledgers[worker%len(ledgers)])
		})
	}
	close(start)
	workers.Wait()
	for _, err := range errs {
		require.NoError(s, err)
	}
}
