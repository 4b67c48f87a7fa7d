package redis_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/proxy"
	"github.com/hapax-go/hapax/internal/servers"
)

// soak runs scenarios at the size they are written down for.
var soak = os.Getenv("HAPAX_SOAK") == "1"

func soaked(small, full int) int {
	if soak {
		return full
	}
	return small
}

var claims = []string{string(dedup.Optimistic), string(dedup.Pessimistic)}

func kills(every int64, effects int64) fault.Plan {
	return fault.Plan{Seed: 7, Effects: effects, Strikes: []fault.Strike{{Action: fault.ActionKill, EveryEffects: every, Jitter: 0.3}}}
}

// diesAtWork: kills by progress may find nobody at work. One of the first three
// consumers, who share the work, dies at work for certain.
func diesAtWork(n int) string {
	if n > 3 {
		return ""
	}
	return fmt.Sprintf("%s@%d", failpoint.AfterHandle, 20*n)
}

// Scenario 1, and its control run.
func TestKilledConsumers(t *testing.T) {
	t.Parallel()
	s := scenario{
		consumers: 3, takes: time.Millisecond, plan: kills(300, 2000),
		workload:   fault.Workload{Seed: 1, Events: 2500, Keys: 64, Duplicates: 0.2},
		failpoints: diesAtWork,
	}
	if soak {
		s.workload.Events, s.workload.Keys = 100_000, 500
		s.plan = fault.Plan{Seed: 7, Duration: time.Minute, Strikes: []fault.Strike{{Action: fault.ActionKill, Every: 2 * time.Second}}}
		s.takes = 5 * time.Millisecond
	}
	for _, claim := range claims {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			s := s
			s.claim = claim
			require.NoError(t, s.run(t).Err())
		})
	}
	t.Run("control", func(t *testing.T) {
		t.Parallel()
		s := s
		s.claim = "none"
		require.NoError(t, fault.Control(s.run(t)))
	})
}

// Scenario 4.
func TestFrozenConsumers(t *testing.T) {
	t.Parallel()
	for _, claim := range claims {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, scenario{
				claim: claim, consumers: 3, takes: 20 * time.Millisecond, workload: fault.Workload{Seed: 2, Events: 1200, Duplicates: 0.1},
				plan: fault.Plan{Seed: 3, Effects: 1100, Strikes: []fault.Strike{{Action: freezeAtWork, EveryEffects: 350, For: 2 * lease}}},
			}.run(t).Err())
		})
	}
}

// Scenario 5.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	for _, claim := range claims {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			through := listen(t, servers.Require(t, servers.Redis).Hosts[0])
			through.DropResponses(proxy.Drop{Fraction: 0.3, Delay: 20 * time.Millisecond})
			through.DelayResponses(0.1, time.Millisecond, 100*time.Millisecond)
			report := scenario{
				claim: claim, through: "redis://" + through.Addr(), consumers: 2, workload: fault.Workload{Seed: 4, Events: soaked(400, 3000), Duplicates: 0.1}, mild: true,
			}.run(t)
			require.NoError(t, report.Err())
			t.Logf("%+v", through.Stats())
			require.Greater(t, through.Stats().Dropped, int64(10))
		})
	}
}

// Scenario 6.
func TestCutConnections(t *testing.T) {
	t.Parallel()
	through := listen(t, servers.Require(t, servers.Redis).Hosts[0])
	if soak {
		through.CutEvery(500*time.Millisecond, 1500*time.Millisecond)
	} else { // as many cuts in less time
		through.CutEvery(100*time.Millisecond, 400*time.Millisecond)
	}
	report := scenario{
		claim: "optimistic", through: "redis://" + through.Addr(), consumers: 2, takes: 40 * time.Millisecond,
		workload: fault.Workload{Seed: 5, Events: soaked(2000, 20_000), Duplicates: 0.1}, mild: true,
	}.run(t)
	require.NoError(t, report.Err())
	require.Greater(t, through.Stats().Cut, int64(10))
}

func listen(t *testing.T, upstream string) *proxy.Proxy {
	through, err := proxy.Listen(upstream, 11)
	require.NoError(t, err)
	t.Cleanup(through.Close)
	return through
}

// Scenario 7: killed at each point of the processing order.
func TestKilledAtEveryPoint(t *testing.T) {
	t.Parallel()
	for _, point := range []failpoint.Point{
		failpoint.AfterClaim, failpoint.AfterHandle, failpoint.BeforeMark, failpoint.AfterMark, failpoint.BeforeAck, failpoint.AfterAck,
	} {
		for _, claim := range claims {
			t.Run(string(point)+", "+claim, func(t *testing.T) {
				t.Parallel()
				report := scenario{
					claim: claim, consumers: 1, workload: fault.Workload{Seed: 6, Events: 100, Keys: 9, Duplicates: 0.4}, mild: true,
					failpoints: func(n int) string {
						if n > 2 {
							return ""
						}
						return fmt.Sprintf("%s@%d", point, 5*n)
					},
				}.run(t)
				require.NoError(t, report.Err())
				require.EqualValues(t, 2, report.Kills, "killed at the point")
			})
		}
	}
}

// Scenario 11. With appendfsync always a kill loses nothing that was confirmed.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]os.Signal{"clean": os.Interrupt, "hard": os.Kill} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startServer(t, "--appendonly", "yes", "--appendfsync", "always")
			const restart fault.Action = "restart"
			report := scenario{
				server: server.url(), claim: "optimistic", consumers: 3, takes: 5 * time.Millisecond, mild: true,
				workload: fault.Workload{Seed: 8, Events: 1500, Duplicates: 0.1},
				plan:     fault.Plan{Seed: 9, Effects: 1300, Strikes: []fault.Strike{{Action: restart, EveryEffects: 400}}},
				hooks: map[fault.Action]func(context.Context, fault.Step) error{restart: func(context.Context, fault.Step) error {
					server.stop(t, signal)
					server.start(t)
					return nil
				}},
			}.run(t)
			require.NoError(t, report.Err())
		})
	}
}

// Scenario 9.
func TestConcurrentCopies(t *testing.T) {
	t.Parallel()
	report := scenario{
		claim: "optimistic", consumers: 4, workload: fault.Workload{Seed: 10, Events: 1000, Keys: 1000, Duplicates: 1, Window: 10}, mild: true,
	}.run(t)
	require.NoError(t, report.Err())
}
