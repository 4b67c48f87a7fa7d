package kafka_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/servers"
)

// Acceptance scenario 8: handlers fail twice and then succeed, and after they have
// succeeded one publishing in five fails.
func TestFailingHandlersAndPublishers(t *testing.T) {
	t.Parallel()
	s := scenario{
		workload: fault.Workload{Seed: 17, Events: 500, Keys: 50, Duplicates: 0.2}, members: 1, partitions: 4,
		order: order{Fails: 2, Aborts: 0.2}, plan: fault.Plan{Seed: 17},
	}
	report := s.run(t, realKafka(t))
	require.NoError(t, report.Err())
	require.GreaterOrEqual(t, report.Redeliveries, 2*s.workload.Events, "handlers did not fail")
}

// Acceptance scenario 9: 16 copies of each of 1,000 events at once, in four processes
// with many handlers each. Two of them die on the way.
func TestConcurrentCopies(t *testing.T) {
	t.Parallel()
	s := scenario{
		workload: fault.Workload{Seed: 18, Events: 1000}, members: 4, partitions: 8, copies: 16, order: order{Slow: 5 * time.Millisecond},
		plan: fault.Plan{Seed: 18, Effects: 900, Strikes: []fault.Strike{{Action: fault.ActionKill, EveryEffects: 400, Jitter: 0.3}}},
	}
	require.NoError(t, s.run(t, realKafka(t)).Err())
}

// Acceptance scenario 10: handlers run three times as long as the session, and nobody
// takes their events over. TestZombies is the other half: consumers that stand still.
func TestSlowHandlers(t *testing.T) {
	t.Parallel()
	s := scenario{
		workload: fault.Workload{Seed: 19, Events: 60, Keys: 5000}, members: 2, partitions: 4,
		order: order{Session: 3 * time.Second, Slow: 9 * time.Second}, plan: fault.Plan{Seed: 19}, calm: true,
	}
	report := s.run(t, realKafka(t))
	require.NoError(t, report.Err())
	require.Zero(t, report.Redeliveries, "an event was taken over from a handler that was at work")
}

// Acceptance scenario 1 at full size: a SIGKILL every two seconds for a minute.
func TestSoakKilledConsumers(t *testing.T) {
	servers.OnRequest(t, "HAPAX_SOAK", "it takes minutes")
	s := scenario{
		workload: fault.Workload{Seed: 20, Events: 100_000, Keys: 2000, Duplicates: 0.2}, members: 3, partitions: 12, order: order{Slow: 20 * time.Millisecond},
		plan: fault.Plan{Seed: 20, Duration: time.Minute, Strikes: []fault.Strike{{Action: fault.ActionKill, Every: 2 * time.Second, Jitter: 0.2}}},
	}
	require.NoError(t, s.run(t, realKafka(t)).Err())
}
