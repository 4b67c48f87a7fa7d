package sqlite_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
)

// Scenario 4: a consumer is frozen in the middle of its handler for twice the
// lease. Its heir commits, and it wakes up and is refused.
//
// All events have one key, so that the zombie has one handler under way and holds
// no lock on a file; see the package essay, "What it costs".
func TestAcceptanceZombie(t *testing.T) {
	t.Parallel()
	const freeze fault.Action = "freeze"
	const lease = lease / 2
	s := scenario{
		consumers: 1, workload: fault.Workload{Seed: 4, Events: 20, Keys: 1, Duplicates: 0.2},
		plan:       fault.Plan{Seed: 4, Effects: 2, Strikes: []fault.Strike{{Action: freeze, EveryEffects: 1, For: 2 * lease}}},
		byHandlers: true,
		adapt: func(n int, c *consumer) {
			c.Lease = lease
			if n == 1 {
				c.Takes = 2 * lease // long enough to be frozen in it, over when it thaws
			}
		},
		hooks: func(r *run) map[fault.Action]func(context.Context, fault.Step) error {
			return map[fault.Action]func(context.Context, fault.Step) error{freeze: func(ctx context.Context, step fault.Step) error {
				// Number 1: the lowest lives longest. All effects meanwhile are its heir's.
				return r.fleet.Supersede(ctx, 0, step.For, func(ctx context.Context) error {
					for {
						count, err := effects.Progress(ctx, r.shop)
						if err != nil || count > 0 {
							return err
						}
						<-time.After(20 * time.Millisecond)
					}
				})
			}}
		},
	}
	s.verdict(t, func(t *testing.T, real *run) {
		require.Contains(t, strings.Join(real.errs, "\n"), dedup.ErrLeaseLost.Error(), "the zombie was not refused")
		require.Equal(t, "consumer-2", real.effects[0].Consumer, "the heir was not first")
	}, claims...)
}

// Scenario 10: a handler takes three times the lease. The heartbeat goes on, and
// nobody takes over.
func TestAcceptanceSlowHandler(t *testing.T) {
	t.Parallel()
	s := scenario{
		consumers: 2, adapt: takes(3 * lease), mild: true,
		workload: fault.Workload{Seed: 10, Events: 20, Keys: 10_000, Duplicates: 0.2}, // all handlers at once
	}
	real, report := s.run(t, dedup.Optimistic)
	require.NoError(t, report.Err())
	require.Zero(t, report.Redeliveries, "somebody took over: %+v", real.deliveries)
}
