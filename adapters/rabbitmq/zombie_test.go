package rabbitmq_test

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/servers"
)

// twoStores are the ledgers of scenarios that mostly wait.
var twoStores = []string{servers.Redis, servers.Postgres}

// Scenario 4: a consumer is frozen in the middle of its handler for more than twice
// its lease and the heartbeat of its connection. Its heir commits, and it wakes up
// and is refused: it publishes nothing.
func TestZombie(t *testing.T) {
	t.Parallel()
	const lease = 2 * time.Second
	s := scenario{
		workload: fault.Workload{Events: 20, Keys: 1, Duplicates: 0.2}, consumers: 1, strict: true,
		meanwhile: func(ctx context.Context, r *run) error {
			if err := r.started(ctx, 1); err != nil {
				return err
			}
			return r.fleet.Supersede(ctx, 0, 2*lease, func(ctx context.Context) error { return r.booked(ctx, 1) })
		},
	}
	s.Lease, s.Heartbeat = lease, time.Second
	s.adapt = func(number int, w *workerSettings) {
		if number == 1 {
			w.Takes, w.Slow = 2*lease, 1 // long enough to be frozen in it, over when it thaws
			w.RelayOnly = true           // frozen in the other stage it would hold a lock
		}
	}
	onStores(t, s, twoStores, func(t *testing.T, s scenario) {
		r := s.verdict(t)
		// By the ledger, or already by the end of the lost connection's deliveries.
		refused := regexp.MustCompile(`consumer-1: commit event .*(` + dedup.ErrLeaseLost.Error() + `|connection to rabbitmq was lost|context canceled)`)
		require.Regexp(t, refused, strings.Join(r.errs, "\n"), "the zombie was not refused")
		require.Equal(t, "consumer-1", r.begun[0].Consumer)
		for _, output := range r.outputs {
			if output.ID == r.begun[0].ID {
				require.Equal(t, "consumer-2", output.Consumer, "the output is not the heir's")
			}
		}
	})
}

// allApart is so many keys that hardly ever two of twenty events have the same (one run in
// 5,000): all of their handlers run at once.
const allApart = 1_000_000

// Scenario 10: handlers take three times their lease, while copies of their events
// knock. With the heartbeat nobody takes over. The control is the next test's.
func TestSlowHandler(t *testing.T) {
	t.Parallel()
	const lease = 3 * time.Second // heartbeats have to come through on a busy machine
	s := scenario{workload: fault.Workload{Events: 20, Keys: allApart}, consumers: 2, copies: 2, gentle: true, strict: true}
	s.Lease, s.Takes = lease, 3*lease
	onStores(t, s, twoStores, func(t *testing.T, s scenario) {
		r, report := s.run(t)
		require.NoError(t, report.Err())
		require.Len(t, r.begun, s.workload.Events, "somebody took over")
		require.Greater(t, len(r.had), 2*s.workload.Events, "no copy has knocked")
	})
}

// The other half: the heartbeats of one process do not get through, and it does not
// notice. Its events are taken over; it publishes under the same event IDs and cannot
// commit.
func TestSlowHandlerWithoutHeartbeat(t *testing.T) {
	t.Parallel()
	const lease = time.Second
	s := scenario{workload: fault.Workload{Events: 20, Keys: allApart}, consumers: 1, copies: 2, later: true, gentle: true}
	s.Lease, s.Window = lease, s.workload.Events
	s.adapt = func(number int, w *workerSettings) { w.Waits, w.Deaf = number == 1, number == 1 }
	// The first has all events, and the other gets their copies; when it has begun with
	// all of them, the first comes to its end.
	s.meanwhile = func(ctx context.Context, r *run) error {
		if err := r.started(ctx, r.workload.Events); err != nil {
			return err
		}
		if err := r.fleet.Join(ctx, 0); err != nil {
			return err
		}
		if err := r.started(ctx, 2*r.workload.Events); err != nil {
			return err
		}
		return r.release()
	}
	onStores(t, s, twoStores, func(t *testing.T, s scenario) {
		r := s.verdict(t)
		require.Contains(t, strings.Join(r.errs, "\n"), dedup.ErrLeaseLost.Error(), "no owner was refused")
	})
}
