package rabbitmq_test

import (
	"cmp"
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/servers"
)

func TestMain(m *testing.M) {
	fault.ChildMain(map[string]func(context.Context, []string) int{"worker": worker})
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		sweep()
		os.Exit(code)
	}))
}

// soak makes the fault scenarios long: HAPAX_SOAK=1.
func soak() bool { return os.Getenv("HAPAX_SOAK") == "1" }

// stores are the ledgers that scenarios run with; those of the second line have
// their turn in the soak. The embedded one has no server.
func stores() []string {
	stores := []string{servers.Redis, servers.Postgres}
	if soak() {
		stores = append(stores, servers.MariaDB, "")
	}
	return stores
}

// onStores runs a scenario once for each of some ledgers.
func onStores(t *testing.T, s scenario, stores []string, judge func(*testing.T, scenario)) {
	for _, store := range stores {
		t.Run(cmp.Or(store, "sqlite"), func(t *testing.T) {
			s := s
			s.store = store
			s.workload.Seed = uint64(time.Now().UnixNano())
			t.Logf("seed %d", s.workload.Seed)
			if store != "" {
				s.Ledger = servers.Require(t, store).URL
			}
			judge(t, s)
		})
	}
}

// Scenario 1: consumers are killed all the time.
func TestKilled(t *testing.T) {
	s := scenario{
		workload: fault.Workload{Events: 600, Pad: 200, Duplicates: 0.2},
		strikes:  []fault.Strike{{Action: fault.ActionKill, EveryEffects: 80, Jitter: 0.3}},
		// Those kills may find nobody at work. Before the first of them one of the
		// consumers, who share the work, dies here for certain.
		failpoints: []string{"after-handle@10", "after-handle@20", "after-handle@10"},
	}
	if soak() {
		s.workload.Events = 100_000
		s.strikes = []fault.Strike{{Action: fault.ActionKill, Every: 2 * time.Second}}
	}
	onStores(t, s, stores(), func(t *testing.T, s scenario) { s.verdict(t) })
}

// The same with one active consumer a queue: also in order per key.
func TestKilledInOrder(t *testing.T) {
	s := scenario{
		workload: fault.Workload{Events: 600, Pad: 200, Duplicates: 0.2},
		strikes:  []fault.Strike{{Action: fault.ActionKill, EveryEffects: 80, Jitter: 0.3}},
		// So that the active one of the first queue dies, more than once.
		failpoints: []string{"after-handle@50", "after-publish@50", "before-ack@50"},
	}
	s.Single = true
	if soak() {
		s.workload.Events = 100_000
		s.strikes = []fault.Strike{{Action: fault.ActionKill, Every: 2 * time.Second}}
	}
	onStores(t, s, stores(), func(t *testing.T, s scenario) {
		_, report := s.run(t)
		require.NoError(t, report.Err())
	})
}

// Scenario 7: each process dies at a point of the processing order.
func TestKilledAtEveryPoint(t *testing.T) {
	s := scenario{workload: fault.Workload{Events: 500, Pad: 200, Duplicates: 0.2}}
	for _, point := range []string{"after-claim", "after-handle", "before-publish", "after-publish", "before-mark", "after-mark", "before-ack", "after-ack"} {
		s.failpoints = append(s.failpoints, point+"@20")
	}
	onStores(t, s, stores(), func(t *testing.T, s scenario) {
		_, report := s.run(t)
		require.NoError(t, report.Err())
		require.GreaterOrEqual(t, report.Kills, len(s.failpoints))
	})
}
