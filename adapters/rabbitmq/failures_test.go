package rabbitmq_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/fault"
)

// Scenario 8: the handler fails twice on each message, or the publisher fails after
// the handler has succeeded, less often than makes a dead letter. Each output is
// published once.
func TestFailures(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*workerSettings){
		"handler":   func(w *workerSettings) { w.FailAttempts = 2 },
		"publisher": func(w *workerSettings) { w.FailPublishes = 15 },
	} {
		t.Run(name, func(t *testing.T) {
			s := scenario{workload: fault.Workload{Events: 100, Duplicates: 0.2}, consumers: 2, strict: true}
			change(&s.workerSettings)
			onStores(t, s, twoStores, func(t *testing.T, s scenario) {
				r := s.verdict(t)
				require.Contains(t, strings.Join(r.errs, "\n"), errRefused.Error())
			})
		})
	}
}

// Scenario 9: copies of each event are with 64 handlers in four processes at once.
// At full size, 1,000 events with 16 copies each.
func TestConcurrentCopies(t *testing.T) {
	t.Parallel()
	s := scenario{workload: fault.Workload{Events: 100, Keys: 10_000}, consumers: 4, copies: 8, gentle: true, strict: true}
	s.Window, s.Takes = 16, 5*time.Millisecond
	if soak() {
		s.workload.Events, s.copies = 1000, 16
	}
	onStores(t, s, twoStores, func(t *testing.T, s scenario) {
		// The copies of a key go one after the other, so only those that are not of one
		// process meet.
		r := s.verdict(t)
		require.NotContains(t, strings.ToLower(strings.Join(r.errs, "\n")), "deadlock")
		holders := map[string]map[string]bool{}
		for _, had := range r.had {
			if holders[had.ID] == nil {
				holders[had.ID] = map[string]bool{}
			}
			holders[had.ID][had.Consumer] = true
		}
		shared := 0
		for _, consumers := range holders {
			if len(consumers) > 1 {
				shared++
			}
		}
		require.Greater(t, shared, s.workload.Events/2, "events that several processes had")
	})
}
