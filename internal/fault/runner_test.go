package fault_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/fault"
)

type hook = func(context.Context, fault.Step) error

func TestRunnerKeepsThePlansTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := fault.Plan{Seed: 3, Duration: time.Minute, Strikes: []fault.Strike{{Action: "restart", Every: 2 * time.Second, Jitter: 0.5}}}
		start := time.Now()
		var struck []time.Duration
		runner := fault.Runner{Plan: plan, Hooks: map[fault.Action]hook{"restart": func(context.Context, fault.Step) error {
			struck = append(struck, time.Since(start))
			return nil
		}}}
		outcome, err := runner.Run(t.Context())
		require.NoError(t, err)
		require.Equal(t, plan.Steps(), outcome.Done)
		require.Empty(t, outcome.Skipped)
		for i, step := range outcome.Done {
			require.Equal(t, step.At, struck[i])
		}
	})
}

func TestRunnerStrikesByProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var effects atomic.Int64
		var struck []int64
		runner := fault.Runner{
			Plan: fault.Plan{Seed: 3, Effects: 1000, Duration: time.Hour, Strikes: []fault.Strike{
				{Action: "cut", EveryEffects: 100}, {Action: "cut", Every: 40 * time.Minute},
			}},
			Progress: func(context.Context) (int64, error) { return effects.Add(1), nil },
			Hooks: map[fault.Action]hook{"cut": func(context.Context, fault.Step) error {
				struck = append(struck, effects.Load())
				return nil
			}},
		}
		outcome, err := runner.Run(t.Context())
		require.NoError(t, err)
		require.Len(t, outcome.Done, 10)
		require.Equal(t, []int64{100, 200, 300, 400, 500, 600, 700, 800, 900}, struck[:9])
	})
}

func TestRunnerSkipsABusyHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runner := fault.Runner{
			Plan: fault.Plan{Duration: 10 * time.Second, Strikes: []fault.Strike{{Action: "restart", Every: time.Second}}},
			Hooks: map[fault.Action]hook{"restart": func(context.Context, fault.Step) error {
				time.Sleep(2500 * time.Millisecond) // virtual
				return nil
			}},
		}
		outcome, err := runner.Run(t.Context())
		require.NoError(t, err)
		require.Len(t, outcome.Done, 3)
		require.Len(t, outcome.Skipped, 6)
	})
}

// The end of the context ends the faults and is no error; what was not done is
// told.
func TestRunnerEndsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		runner := fault.Runner{
			Plan:  fault.Plan{Duration: 10 * time.Second, Strikes: []fault.Strike{{Action: "restart", Every: time.Second}}},
			Hooks: map[fault.Action]hook{"restart": func(ctx context.Context, _ fault.Step) error { <-ctx.Done(); return ctx.Err() }},
		}
		outcome, err := runner.Run(ctx)
		require.NoError(t, err)
		require.Len(t, outcome.Done, 1)
		require.Len(t, outcome.Skipped, 8)
	})
}

func TestRunnerReportsWhatMakesTheRunWorthless(t *testing.T) {
	boom := errors.New("boom")
	restart := fault.Plan{Duration: 10 * time.Second, Strikes: []fault.Strike{{Action: "restart", Every: time.Second}}}
	progress := fault.Plan{Effects: 10, Strikes: []fault.Strike{{Action: "restart", EveryEffects: 1}}}
	kill := fault.Plan{Duration: 10 * time.Second, Strikes: []fault.Strike{{Action: fault.ActionKill, Every: time.Second}}}
	hooks := map[fault.Action]hook{"restart": func(context.Context, fault.Step) error { return boom }}
	for problem, runner := range map[string]fault.Runner{
		"run hook restart: boom":               {Plan: restart, Hooks: hooks},
		"count effects: boom":                  {Plan: progress, Hooks: hooks, Progress: func(context.Context) (int64, error) { return 0, boom }},
		"run plan: no hook for strike restart": {Plan: restart},
		"run plan: strike kill needs a fleet":  {Plan: kill},
		"run plan: strike restart goes by effects, but nothing counts them: set Progress": {Plan: progress, Hooks: hooks},
	} {
		synctest.Test(t, func(t *testing.T) {
			outcome, err := runner.Run(t.Context())
			require.EqualError(t, err, problem)
			require.LessOrEqual(t, len(outcome.Done), 1, "the first failure ends the faults")
		})
	}
}
