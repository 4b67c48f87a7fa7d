package acceptance_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/failpoint"
	"github.com/hapax-go/hapax/internal/fault"
)

// deadly makes the first consumers die where it hurts most: an output is published
// and not marked, marked and not acknowledged.
func deadly(n int) string {
	if points := []failpoint.Point{failpoint.BeforeAck, failpoint.AfterPublish, failpoint.AfterMark}; n <= len(points) {
		return fmt.Sprintf("%s@%d", points[n-1], 5*n)
	}
	return ""
}

// Scenario 1: three consumers, one of them killed again and again. At full size,
// every 2 seconds for 60 seconds, with 100,000 events.
func TestKill(t *testing.T) {
	kinds(t, func(t *testing.T, fifo bool) {
		s := scenario{
			consumers: 3, failpoints: deadly,
			workload: fault.Workload{Seed: 1, Events: 400, Keys: 64, Duplicates: 0.2},
			plan:     fault.Plan{Seed: 1, Effects: 350, Strikes: []fault.Strike{{Action: fault.ActionKill, EveryEffects: 90, Jitter: 0.3}}},
		}
		if soak {
			s.long = true
			s.workload.Events, s.workload.Keys, s.over, s.within = 100_000, 2000, 50*time.Second, 25*time.Minute
			s.plan = fault.Plan{Seed: 1, Duration: time.Minute, Strikes: []fault.Strike{{Action: fault.ActionKill, Every: 2 * time.Second}}}
			_, report := s.run(t, fifo, true)
			require.NoError(t, report.Err())
			return // the control run is that of the small size
		}
		s.verdict(t, fifo)
	})
}

// The same with the other ledgers.
func TestKillLedgers(t *testing.T) {
	t.Parallel()
	for _, ledger := range []string{inRedis, inSQL} {
		t.Run(ledger, func(t *testing.T) {
			kinds(t, func(t *testing.T, fifo bool) {
				s := scenario{
					consumers: 2, failpoints: deadly, ledger: ledger,
					workload: fault.Workload{Seed: 3, Events: 200, Keys: 64, Duplicates: 0.2},
				}
				_, report := s.run(t, fifo, true)
				require.NoError(t, report.Err())
			})
		})
	}
}

// Scenario 7: a consumer and its successor die at a point of the processing order.
func TestCrashPoints(t *testing.T) {
	t.Parallel()
	const victims = 2
	s := scenario{
		consumers: 1, mild: true, // dead before the handler, nothing is done twice
		workload: fault.Workload{Seed: 7, Events: 40, Keys: 8, Duplicates: 0.4},
	}
	die := func(t *testing.T, point failpoint.Point, fifo, deduplicate bool) fault.Report {
		s := s
		s.failpoints = func(n int) string {
			if n > victims {
				return ""
			}
			return fmt.Sprintf("%s@%d", point, 1+n)
		}
		_, report := s.run(t, fifo, deduplicate)
		require.Equal(t, victims, report.Kills)
		return report
	}
	t.Run("control", func(t *testing.T) {
		t.Parallel()
		require.NoError(t, fault.Control(die(t, failpoint.BeforeAck, false, false)))
		require.NoError(t, fault.Control(die(t, failpoint.BeforeAck, true, false)))
	})
	for _, point := range []failpoint.Point{
		failpoint.AfterClaim, failpoint.AfterHandle, failpoint.BeforePublish, failpoint.AfterPublish,
		failpoint.BeforeMark, failpoint.AfterMark, failpoint.BeforeAck, failpoint.AfterAck,
	} {
		t.Run(string(point), func(t *testing.T) {
			t.Parallel()
			for _, fifo := range []bool{false, true} {
				require.NoError(t, die(t, point, fifo, true).Err())
			}
		})
	}
}
