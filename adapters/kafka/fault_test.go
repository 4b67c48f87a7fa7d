package kafka_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/failpoint"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/proxy"
)

var small = fault.Workload{Seed: 7, Events: load(2000), Keys: 50, Duplicates: 0.2}

// Acceptance scenario 1: consumers are killed in the middle of their work.
func TestKilledConsumers(t *testing.T) {
	t.Parallel()
	brokers := realKafka(t)
	s := scenario{
		workload: small, members: 3, partitions: 6, order: order{Slow: time.Millisecond},
		plan: fault.Plan{Seed: 7, Effects: int64(small.Events) * 9 / 10, Strikes: []fault.Strike{{Action: fault.ActionKill, EveryEffects: int64(small.Events) / 6, Jitter: 0.3}}},
	}
	once := s.run(t, brokers)
	s.order.Plain = true
	plain := s.run(t, brokers)
	require.NoError(t, fault.Verdict(once, plain))
}

// Acceptance scenario 2: a third of the transactions abort.
func TestAbortedTransactions(t *testing.T) {
	t.Parallel()
	s := scenario{
		workload: small, members: 2, partitions: 12, order: order{Aborts: 0.33},
		plan: fault.Plan{Seed: 8, Effects: int64(small.Events) * 9 / 10, Strikes: []fault.Strike{{Action: fault.ActionKill, EveryEffects: int64(small.Events) / 3, Jitter: 0.3}}},
	}
	require.NoError(t, s.run(t, realKafka(t)).Err())
}

// Acceptance scenario 3: members come and go. With the groups of KIP-848 nobody is
// killed: leaving in order is what differs there.
func TestRebalanceChurn(t *testing.T) {
	t.Parallel()
	for _, serverSide := range []bool{false, true} {
		t.Run(fmt.Sprintf("server side %t", serverSide), func(t *testing.T) {
			strikes := []fault.Strike{
				{Action: fault.ActionJoin, EveryEffects: int64(small.Events) / 8, Jitter: 0.5},
				{Action: fault.ActionLeave, EveryEffects: int64(small.Events) / 8, Jitter: 0.5},
			}
			if !serverSide {
				strikes = append(strikes, fault.Strike{Action: fault.ActionKill, EveryEffects: int64(small.Events) / 3, Jitter: 0.5})
			}
			s := scenario{
				workload: small, members: 3, partitions: 12, order: order{Slow: 2 * time.Millisecond, ServerSide: serverSide},
				calm: serverSide,
				plan: fault.Plan{Seed: 9, Effects: int64(small.Events) * 9 / 10, Min: 2, Max: 6, Strikes: strikes},
			}
			require.NoError(t, s.run(t, realKafka(t)).Err())
		})
	}
}

// Acceptance scenario 4: a consumer stands still for twice its session, and wakes.
func TestZombies(t *testing.T) {
	t.Parallel()
	s := scenario{
		workload: small, members: 3, partitions: 6, order: order{Slow: 5 * time.Millisecond},
		plan: fault.Plan{Seed: 10, Effects: int64(small.Events) * 9 / 10, Strikes: []fault.Strike{{Action: fault.ActionPause, EveryEffects: int64(small.Events) / 4, Jitter: 0.3, For: 3 * time.Second}}},
		failpoints: func(number int) string {
			if number > 1 {
				return ""
			}
			// A pause that the plan times may find nobody at work. This one does not.
			return fmt.Sprintf("%s@20:3s", failpoint.AfterHandle)
		},
	}
	require.NoError(t, s.run(t, realKafka(t)).Err())
}

// Scenario 3, as a chain of three stages, each exact.
func TestRebalanceChurnInAChain(t *testing.T) {
	t.Parallel()
	s := scenario{
		workload: small, members: 3, partitions: 6, order: order{Slow: time.Millisecond}, stages: 3,
		plan: fault.Plan{Seed: 15, Effects: int64(small.Events) * 9 / 10, Min: 2, Max: 6, Strikes: []fault.Strike{
			{Action: fault.ActionJoin, EveryEffects: int64(small.Events) / 6, Jitter: 0.5},
			{Action: fault.ActionLeave, EveryEffects: int64(small.Events) / 6, Jitter: 0.5},
			{Action: fault.ActionKill, EveryEffects: int64(small.Events) / 3, Jitter: 0.5},
		}},
	}
	require.NoError(t, s.run(t, realKafka(t)).Err())
}

// Acceptance scenario 5: answers get lost, those of commits too.
func TestUnknownOutcomes(t *testing.T) {
	t.Parallel()
	s := scenario{
		workload: small, members: 2, partitions: 4, order: order{},
		plan: fault.Plan{Seed: 11, Effects: int64(small.Events) * 9 / 10, Strikes: []fault.Strike{{Action: fault.ActionKill, EveryEffects: int64(small.Events) / 2, Jitter: 0.3}}},
		proxy: func(p *proxy.Proxy) {
			p.DropResponses(proxy.Drop{Fraction: 0.3, Spare: 6, Delay: 50 * time.Millisecond})
		},
	}
	require.NoError(t, s.run(t, realKafka(t)).Err())
}

// Acceptance scenario 6: connections live for a second.
func TestConnectionChaos(t *testing.T) {
	t.Parallel()
	s := scenario{
		workload: small, members: 2, partitions: 4, order: order{Slow: 5 * time.Millisecond},
		plan:  fault.Plan{Seed: 12, Effects: int64(small.Events) * 9 / 10, Strikes: []fault.Strike{{Action: fault.ActionKill, EveryEffects: int64(small.Events) / 2, Jitter: 0.3}}},
		proxy: func(p *proxy.Proxy) { p.CutEvery(500*time.Millisecond, 1500*time.Millisecond) },
	}
	require.NoError(t, s.run(t, realKafka(t)).Err())
}

// Acceptance scenario 7: a crash at every named point.
func TestCrashPoints(t *testing.T) {
	t.Parallel()
	brokers := realKafka(t)
	for _, point := range []failpoint.Point{
		failpoint.AfterClaim, failpoint.AfterHandle, failpoint.BeforePublish, failpoint.AfterPublish,
		failpoint.BeforeMark, failpoint.AfterMark, failpoint.BeforeAck, failpoint.AfterAck,
	} {
		t.Run(string(point), func(t *testing.T) {
			s := scenario{
				workload: fault.Workload{Seed: 13, Events: 150, Keys: 10, Duplicates: 0.2}, members: 1, partitions: 2, order: order{Slow: time.Millisecond},
				plan: fault.Plan{Seed: 13},
				failpoints: func(number int) string {
					if number > 2 {
						return ""
					}
					return fmt.Sprintf("%s@%d", point, number*2)
				},
			}
			report := s.run(t, brokers)
			require.NoError(t, report.Err())
			require.Equal(t, 2, report.Kills, "the point was not reached")
		})
	}
}
