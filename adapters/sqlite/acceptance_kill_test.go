package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
	"github.com/hapax-go/hapax/internal/fault"
)

// claims are the kinds of claim that the strategy offers.
var claims = []dedup.ClaimKind{dedup.Optimistic, dedup.Pessimistic}

func takes(d time.Duration) func(int, *consumer) {
	return func(_ int, c *consumer) { c.Takes = d }
}

// Scenario 1: three consumers, one of them killed again and again. At full size,
// every 2 seconds for 60 seconds, with 100,000 events.
func TestAcceptanceKill(t *testing.T) {
	t.Parallel()
	s := scenario{
		consumers: 3, adapt: takes(2 * time.Millisecond),
		workload: fault.Workload{Seed: 1, Events: 500, Keys: 64, Duplicates: 0.2},
		plan:     fault.Plan{Seed: 1, Effects: 450, Strikes: []fault.Strike{{Action: fault.ActionKill, EveryEffects: 120, Jitter: 0.3}}},
		// Those kills may find nobody at work. One of the first three consumers, who
		// share the work, dies at work for certain.
		failpoints: func(n int) string {
			if n > 3 {
				return ""
			}
			return fmt.Sprintf("%s@%d", failpoint.AfterHandle, 10*n)
		},
	}
	if soak {
		s.workload.Events, s.workload.Keys, s.over = 100_000, 500, 50*time.Second
		s.plan = fault.Plan{Seed: 1, Duration: time.Minute, Strikes: []fault.Strike{{Action: fault.ActionKill, Every: 2 * time.Second}}}
	}
	s.verdict(t, nil, claims...)
}

// Scenario 7: a consumer and its successor die at a point of the processing order.
// In the control that point is where its row is written and nothing acknowledged.
func TestAcceptanceCrashPoints(t *testing.T) {
	t.Parallel()
	const victims = 2
	s := scenario{
		consumers: 1, adapt: func(_ int, c *consumer) { c.Lease = lease / 4 },
		mild:     true, // dead before the handler, nothing is done twice
		workload: fault.Workload{Seed: 7, Events: 60, Keys: 8, Duplicates: 0.4},
	}
	die := func(t *testing.T, point failpoint.Point, claim dedup.ClaimKind) fault.Report {
		s := s
		s.failpoints = func(n int) string {
			if n > victims {
				return ""
			}
			return fmt.Sprintf("%s@%d", point, n)
		}
		_, report := s.run(t, claim)
		require.Equal(t, victims, report.Kills)
		return report
	}
	t.Run("control", func(t *testing.T) {
		report := die(t, failpoint.BeforeAck, control)
		require.NoError(t, fault.Control(report))
		require.Positive(t, report.Redeliveries)
	})
	for _, point := range []failpoint.Point{
		failpoint.AfterClaim, failpoint.AfterHandle, failpoint.BeforeMark, failpoint.AfterMark, failpoint.BeforeAck, failpoint.AfterAck,
	} {
		t.Run(string(point), func(t *testing.T) { require.NoError(t, die(t, point, dedup.Optimistic).Err()) })
	}
}

// Scenario 11: the broker is its consumers' file, so a restart is one of them all.
func TestAcceptanceRestart(t *testing.T) {
	t.Parallel()
	const restart fault.Action = "restart"
	s := scenario{
		consumers: 3, adapt: takes(2 * time.Millisecond),
		workload: fault.Workload{Seed: 11, Events: 300, Keys: 64, Duplicates: 0.2},
		plan:     fault.Plan{Seed: 11, Effects: 200, Strikes: []fault.Strike{{Action: restart, EveryEffects: 150, Jitter: 0.2}}},
	}
	ending := func(end func(context.Context, *fault.Fleet) error) scenario {
		s := s
		s.hooks = func(r *run) map[fault.Action]func(context.Context, fault.Step) error {
			return map[fault.Action]func(context.Context, fault.Step) error{restart: func(ctx context.Context, _ fault.Step) error {
				errs := make([]error, s.consumers)
				var ends sync.WaitGroup
				for i := range errs {
					ends.Go(func() { errs[i] = end(ctx, r.fleet) })
				}
				ends.Wait()
				return errors.Join(append(errs, r.fleet.Start(ctx, s.consumers-r.fleet.Size()))...)
			}}
		}
		return s
	}
	t.Run("hard", func(t *testing.T) {
		s := ending(func(ctx context.Context, f *fault.Fleet) error { return f.Kill(ctx, 0) }) // the fleet replaces it
		s.adapt = func(n int, c *consumer) {
			c.Takes = 2 * time.Millisecond
			if n <= s.consumers {
				c.HangsAt = 5 // so that the restart finds a handler at work
			}
		}
		s.verdict(t, nil, dedup.Optimistic)
	})
	t.Run("clean", func(t *testing.T) {
		s := ending(func(_ context.Context, f *fault.Fleet) error { return f.Leave(0, 0, 30*time.Second) })
		s.mild = true // whoever leaves finishes what it has
		_, report := s.run(t, dedup.Optimistic)
		require.NoError(t, report.Err())
	})
}
