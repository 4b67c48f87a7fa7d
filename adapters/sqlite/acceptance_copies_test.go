package sqlite_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault"
)

var errRefused = errors.New("refused")

// Scenario 8: the handler fails twice on each message, or the commit fails after
// the handler succeeded.
func TestAcceptanceFailures(t *testing.T) {
	t.Parallel()
	s := scenario{consumers: 2, workload: fault.Workload{Seed: 8, Events: 100, Keys: 16, Duplicates: 0.2}}
	for name, adapt := range map[string]func(int, *consumer){
		"handler": func(_ int, c *consumer) { c.FailAttempts = 2 },
		"commit":  func(_ int, c *consumer) { c.FailCommits = 30 },
	} {
		t.Run(name, func(t *testing.T) {
			s := s
			s.adapt = adapt
			s.verdict(t, func(t *testing.T, real *run) {
				require.Contains(t, strings.Join(real.errs, "\n"), errRefused.Error())
			}, dedup.Optimistic)
		})
	}
}

// Scenario 9: copies of each event are with four processes at once. At full size,
// 1,000 events with 16 copies each.
func TestAcceptanceConcurrentCopies(t *testing.T) {
	t.Parallel()
	s := scenario{
		consumers: 4, spread: 4, adapt: takes(5 * time.Millisecond), mild: true,
		over:     time.Millisecond, // so that all four are there when the first copy comes
		workload: fault.Workload{Seed: 9, Events: 150, Keys: 150, Duplicates: 0.2},
	}
	if soak {
		s.workload.Events, s.spread = 1000, 16
	}
	s.verdict(t, func(t *testing.T, real *run) {
		require.NotContains(t, strings.Join(real.errs, "\n"), "locked")
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
	}, claims...)
}
