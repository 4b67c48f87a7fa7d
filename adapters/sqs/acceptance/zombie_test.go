package acceptance_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault"
)

// Scenario 4: a consumer is frozen in the middle of its handler for twice its lease and
// its messages' visibility. Its heir commits, and it wakes up and is refused: by the
// ledger, for it is deaf to what SQS says of its messages meanwhile.
func TestZombie(t *testing.T) {
	const freeze fault.Action = "freeze"
	kinds(t, func(t *testing.T, fifo bool) {
		s := scenario{
			consumers: 1, workload: fault.Workload{Seed: 4, Events: 20, Keys: 1, Duplicates: 0.2},
			plan:       fault.Plan{Seed: 4, Effects: 2, Strikes: []fault.Strike{{Action: freeze, EveryEffects: 1, For: 2 * lease}}},
			byHandlers: true,
			adapt: func(n int, c *consumer) {
				if n == 1 {
					c.Takes = 5 * lease // long enough to be frozen in it
					c.Once, c.Deaf = true, true
				}
			},
			hooks: func(r *run) map[fault.Action]func(context.Context, fault.Step) error {
				return map[fault.Action]func(context.Context, fault.Step) error{freeze: func(ctx context.Context, step fault.Step) error {
					r.mu.Lock()
					held := slices.Clone(r.begun)
					r.mu.Unlock()
					return r.fleet.Supersede(ctx, 0, step.For, func(ctx context.Context) error {
						for !r.tookEffect(held) && ctx.Err() == nil {
							<-time.After(20 * time.Millisecond)
						}
						return ctx.Err()
					})
				}}
			},
		}
		real := s.verdict(t, fifo)
		require.Contains(t, strings.Join(real.errs, "\n"), dedup.ErrLeaseLost.Error(), "the zombie was not refused")
	})
}

// Scenario 10: a handler takes three times the lease and the visibility. The heartbeats
// go on, and nobody takes over. In the control run they do not reach the server, and
// somebody does; the effects are exact all the same.
func TestSlowHandler(t *testing.T) {
	kinds(t, func(t *testing.T, fifo bool) {
		// So long that heartbeats have the time they need on a busy machine.
		const slow = 10 * time.Second
		workload := fault.Workload{Seed: 10, Events: 20, Keys: 10_000} // all handlers at once
		s := scenario{consumers: 2, mild: true, adapt: func(_ int, c *consumer) { c.Lease, c.Takes = slow, 3*slow }, workload: workload}
		real, report := s.run(t, fifo, true)
		require.NoError(t, report.Err())
		require.Zero(t, report.Redeliveries, "somebody took over: %+v", real.deliveries)

		s.mild, s.adapt = false, func(_ int, c *consumer) { c.Takes, c.Silent = 3*lease, true }
		_, report = s.run(t, fifo, true)
		require.NoError(t, report.Err(), "redeliveries included: without them the run is not fit to be judged")
	})
}
