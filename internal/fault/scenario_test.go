package fault_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
)

// The whole harness on a system that is simple enough to be right: the run with
// deduplication is clean, and the control run is found guilty.
func TestScenario(t *testing.T) {
	once, plain := scenario(t, "once"), scenario(t, "plain")
	require.NoError(t, fault.Verdict(once, plain))
	require.ErrorIs(t, fault.Verdict(once, once), fault.ErrProvedNothing)
	require.Zero(t, plain.Lost)
	require.GreaterOrEqual(t, plain.DuplicateEffects, 100, "the producer's copies alone are so many")
	for _, report := range []fault.Report{once, plain} {
		require.GreaterOrEqual(t, report.Kills, 5, "some by the runner, three at failpoints")
		require.GreaterOrEqual(t, report.Redeliveries, 3)
	}
}

func scenario(t *testing.T, mode string) fault.Report {
	folder := t.TempDir()
	queue, err := openQueue(t.Context(), folder)
	require.NoError(t, err)
	defer func() { require.NoError(t, queue.Close()) }()

	var sent fault.Sent
	workload := fault.Workload{Seed: 5, Events: 600, Keys: 10, Duplicates: 0.2}
	for send := range workload.Sends() {
		require.NoError(t, enqueue(t.Context(), queue, send))
		sent.Record(send.Event, fault.SendOK)
	}

	fleet := newFleet(t, 3, func(number int) fault.Command {
		command := fault.Command{Role: "worker", Args: []string{fmt.Sprintf("consumer-%d", number), folder, mode}}
		if number <= 3 {
			command.Failpoints = fmt.Sprintf("after-handle@%d", 5*number)
		}
		return command
	})
	runner := fault.Runner{
		Fleet:    fleet,
		Plan:     fault.Plan{Seed: 5, Effects: 500, Strikes: []fault.Strike{{Action: fault.ActionKill, EveryEffects: 120, Jitter: 0.25}}},
		Progress: func(ctx context.Context) (int64, error) { return effects.Progress(ctx, queue) },
	}
	_, err = runner.Run(within(t, time.Minute))
	require.NoError(t, err)
	earlier, err := effects.Read(t.Context(), queue)
	require.NoError(t, err)

	left, err := fault.Drain(within(t, time.Minute), func(ctx context.Context) (map[string]int64, error) { return backlog(ctx, queue) })
	require.NoError(t, err)
	require.NoError(t, fleet.Shutdown(grace))
	require.NoError(t, fleet.Err())

	observation := fault.Observation{Expected: sent.Expected(), Earlier: earlier, Left: left, Counts: fleet.Counts()}
	observation.Effects, err = effects.Read(t.Context(), queue)
	require.NoError(t, err)
	deliveries, err := effects.Open(t.Context(), filepath.Join(folder, "deliveries"))
	require.NoError(t, err)
	defer func() { require.NoError(t, deliveries.Close()) }()
	observation.Deliveries, err = effects.ReadDeliveries(t.Context(), deliveries)
	require.NoError(t, err)
	return fault.Check(observation)
}
