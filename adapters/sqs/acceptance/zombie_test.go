package acceptance_test

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault"
)

// Scenario 4: a consumer is frozen in the middle of its handler for twice its lease and
// its messages' visibility. Its heir commits, and it wakes up and is refused.
func TestZombie(t *testing.T) {
	const freeze fault.Action = "freeze"
	kinds(t, func(t *testing.T, fifo bool) {
		s := scenario{
			consumers: 1, workload: fault.Workload{Seed: 4, Events: 20, Keys: 1, Duplicates: 0.2},
			plan:       fault.Plan{Seed: 4, Effects: 2, Strikes: []fault.Strike{{Action: freeze, EveryEffects: 1, For: 2 * lease}}},
			byHandlers: true,
			adapt: func(n int, c *consumer) {
				if n == 1 {
					c.Takes = 2 * lease // long enough to be frozen in it, over when it thaws
				}
			},
			hooks: func(r *run) map[fault.Action]func(context.Context, fault.Step) error {
				return map[fault.Action]func(context.Context, fault.Step) error{freeze: func(ctx context.Context, step fault.Step) error {
					joined := make(chan error, 1)
					go func() { joined <- r.fleet.Join(ctx, 0) }()
					err := r.fleet.Pause(ctx, 0, step.For) // number 1: the lowest lives longest
					if err == nil {
						err = <-joined
					}
					return err
				}}
			},
		}
		real := s.verdict(t, fifo)
		// By the ledger, or because SQS has said before that the message is another's.
		refused := regexp.MustCompile(`commit event .*(` + dedup.ErrLeaseLost.Error() + `|visibility timeout has run out)`)
		require.Regexp(t, refused, strings.Join(real.errs, "\n"), "the zombie was not refused")
	})
}

// Scenario 10: a handler takes three times the lease and the visibility. The heartbeats
// go on, and nobody takes over.
func TestSlowHandler(t *testing.T) {
	const lease = 3 * lease // heartbeats have to come through on a busy machine
	kinds(t, func(t *testing.T, fifo bool) {
		s := scenario{
			consumers: 2, mild: true, adapt: func(_ int, c *consumer) { c.Lease, c.Takes = lease, 3*lease },
			workload: fault.Workload{Seed: 10, Events: 20, Keys: 10_000}, // all handlers at once
		}
		real, report := s.run(t, fifo, true)
		require.NoError(t, report.Err())
		require.Zero(t, report.Redeliveries, "somebody took over: %+v", real.deliveries)
	})
}
