package acceptance_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/failpoint"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/proxy"
	"github.com/hapax-go/hapax/internal/servers"
)

// struck is a scenario whose fault is the network's. The first consumer dies between
// its output and its acknowledgement, so that a control run shows: what SQS loses and
// delays it mostly repairs by itself.
func struck(seed uint64, network func(*proxy.Proxy)) scenario {
	s := scenario{
		consumers: 2, network: network,
		workload: fault.Workload{Seed: seed, Events: 150, Keys: 32, Duplicates: 0.2},
		failpoints: func(n int) string {
			if n == 1 {
				return fmt.Sprintf("%s@10", failpoint.BeforeAck)
			}
			return ""
		},
	}
	if soak {
		s.workload.Events, s.within = 2000, 10*time.Minute
	}
	return s
}

// hangs is how long nothing may hang.
const hangs = 30 * time.Second

// Scenario 5: three answers of ten do not come as they should. Two are lost, the requests
// having been done, and one comes late. The answers to sends, receives, deletes and
// renewals are treated alike.
func TestUnknownOutcomes(t *testing.T) {
	kinds(t, func(t *testing.T, fifo bool) {
		s := struck(5, func(network *proxy.Proxy) {
			network.DropResponses(proxy.Drop{Fraction: 0.2})
			network.DelayResponses(0.1, 100*time.Millisecond, time.Second)
		})
		s.workload.Events *= 2 // however they are shared among batches, many answers
		real := s.verdict(t, fifo)
		stats := real.network.Stats()
		require.Greater(t, stats.Dropped, int64(20))
		require.Positive(t, stats.Delayed)
		require.Less(t, real.slowest, hangs, "the slowest publish")
		require.Less(t, real.gap, hangs, "the longest time without an effect")
	})
}

// Scenario 6: every connection dies after 500 to 1,500 ms.
func TestConnectionChaos(t *testing.T) {
	kinds(t, func(t *testing.T, fifo bool) {
		s := struck(6, func(network *proxy.Proxy) { network.CutEvery(500*time.Millisecond, 1500*time.Millisecond) })
		s.over = 4 * time.Second
		real := s.verdict(t, fifo)
		require.Greater(t, real.network.Stats().Cut, int64(10))
		require.Less(t, real.gap, hangs, "the longest time without an effect")
	})
}

// Scenario 11: the server is away for a while in the middle, twice: every connection
// ends at once, and new ones are refused. It keeps what it has confirmed, as Amazon's
// does.
func TestOutage(t *testing.T) {
	const outage fault.Action = "outage"
	kinds(t, func(t *testing.T, fifo bool) {
		s := struck(11, func(*proxy.Proxy) {})
		// Effects are counted by a reader that is not cut off: what it finds during the first
		// outage must not reach to the second, which would be left out.
		s.workload.Events = max(s.workload.Events, 350)
		s.plan = fault.Plan{Seed: 11, Effects: 300, Strikes: []fault.Strike{{Action: outage, EveryEffects: 120, For: 2 * lease}}}
		s.hooks = func(r *run) map[fault.Action]func(context.Context, fault.Step) error {
			return map[fault.Action]func(context.Context, fault.Step) error{outage: func(_ context.Context, step fault.Step) error {
				r.network.Down()
				<-time.After(step.For)
				return r.network.Up()
			}}
		}
		real := s.verdict(t, fifo)
		require.Less(t, real.gap, hangs, "the longest time without an effect")
	})
}

// The same with a server of our own that really restarts, in order or killed, and loses
// nothing that it has confirmed. Its storage does not bear receives of what is being
// sent, so everything is sent before the consumers start, and their outputs are read
// after the last restart; and what it restores has lost its place in its FIFO group.
func TestServerRestarts(t *testing.T) {
	servers.OnRequest(t, "HAPAX_SOAK", "it starts servers of its own, and takes minutes")
	const restart fault.Action = "restart"
	for name, hard := range map[string]bool{"clean": false, "hard": true} {
		t.Run(name, func(t *testing.T) {
			kinds(t, func(t *testing.T, fifo bool) {
				server := startServer(t)
				s := struck(11, nil)
				s.endpoint, s.workload.Events, s.apart, s.forgetful = server.endpoint, 300, true, true
				s.byHandlers = true
				s.plan = fault.Plan{Seed: 11, Effects: 250, Strikes: []fault.Strike{{Action: restart, EveryEffects: 100}}}
				s.hooks = func(r *run) map[fault.Action]func(context.Context, fault.Step) error {
					return map[fault.Action]func(context.Context, fault.Step) error{restart: func(ctx context.Context, _ fault.Step) error {
						began := time.Now()
						err := server.restart(ctx, hard)
						t.Logf("the server was away for %s", time.Since(began).Round(time.Millisecond))
						r.mu.Lock()
						defer r.mu.Unlock()
						r.heard = time.Now() // how long it takes to start is its own affair
						return err
					}}
				}
				real := s.verdict(t, fifo)
				require.Less(t, real.silence, hangs, "the longest time in which no handler began, with the server there")
				log, err := os.ReadFile(server.record.Processes[0].LogFile())
				require.NoError(t, err)
				require.NotContains(t, string(log), "OneForOneStrategy", "the server lost its memory by itself, without a restart")
				require.NotContains(t, string(log), "already closed", "the server confirmed what it no longer stored")
			})
		})
	}
}
