package acceptance_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/fault"
)

// Scenario 8: the handler fails twice on each message, or the publisher fails after
// the handler has succeeded.
func TestFailures(t *testing.T) {
	t.Parallel()
	for name, adapt := range map[string]func(int, *consumer){
		"handler":   func(_ int, c *consumer) { c.FailAttempts = 2 },
		"publisher": func(_ int, c *consumer) { c.FailPublishes = 30 },
	} {
		for kind, fifo := range map[string]bool{"standard": false, "fifo": true} {
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				s := scenario{consumers: 2, adapt: adapt, failpoints: deadly, workload: fault.Workload{Seed: 8, Events: 60, Keys: 16, Duplicates: 0.2}}
				real := s.verdict(t, fifo)
				require.Contains(t, strings.Join(real.errs, "\n"), errRefused.Error())
			})
		}
	}
}

// Scenario 9: copies of each event are with four processes at once. At full size,
// 1,000 events with 16 copies each.
func TestConcurrentCopies(t *testing.T) {
	kinds(t, func(t *testing.T, fifo bool) {
		s := scenario{
			consumers: 4, spread: 4, mild: true, adapt: func(_ int, c *consumer) { c.Takes = 5 * time.Millisecond },
			workload: fault.Workload{Seed: 9, Events: 100, Keys: 100},
		}
		if soak {
			s.workload.Events, s.spread, s.within = 1000, 16, 5*time.Minute
		}
		real := s.verdict(t, fifo)
		require.NotContains(t, strings.Join(real.errs, "\n"), "lock", "no deadlock error escapes")
		holders := map[string]map[string]bool{}
		for _, delivery := range real.deliveries {
			if holders[delivery.ID] == nil {
				holders[delivery.ID] = map[string]bool{}
			}
			holders[delivery.ID][delivery.Consumer] = true
		}
		shared := 0
		for _, consumers := range holders {
			if len(consumers) > 1 {
				shared++
			}
		}
		require.Greater(t, shared, s.workload.Events/4, "events that several processes had")
	})
}
