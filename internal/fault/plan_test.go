package fault_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/fault"
)

func kills(every time.Duration) fault.Strike {
	return fault.Strike{Action: fault.ActionKill, Every: every, Jitter: 0.25}
}

func TestPlanIsReplayable(t *testing.T) {
	plan := fault.Plan{
		Seed: 42, Duration: time.Minute, Effects: 1000,
		Strikes: []fault.Strike{
			kills(2 * time.Second),
			{Action: fault.ActionPause, Every: 5 * time.Second, For: time.Second},
			{Action: fault.ActionJoin, EveryEffects: 300, Jitter: 0.1},
		},
	}
	steps := plan.Steps()
	require.Equal(t, steps, plan.Steps())

	data, err := json.Marshal(plan) // as kept from a failed run
	require.NoError(t, err)
	var read fault.Plan
	require.NoError(t, json.Unmarshal(data, &read))
	require.Equal(t, steps, read.Steps())

	plan.Seed = 43
	require.NotEqual(t, steps, plan.Steps())
}

// The exact steps of a seed: a change here makes old seeds worthless.
func TestPlanSteps(t *testing.T) {
	plan := fault.Plan{
		Seed: 1, Duration: 7 * time.Second, Effects: 70,
		Strikes: []fault.Strike{{Action: fault.ActionKill, Every: 2 * time.Second, EveryEffects: 30, Jitter: 0.5}},
	}
	steps := plan.Steps()
	require.Equal(t, []fault.Step{
		{AtEffect: 24, Action: "kill", Target: 0x38c3865c468a76fd},
		{AtEffect: 45, Action: "kill", Target: 0x1cadd18b56a15e54},
		{At: 1635616270, Action: "kill", Target: 0x38c3865c468a76fd},
		{At: 3082327643, Action: "kill", Target: 0x1cadd18b56a15e54},
		{At: 5030859121, Action: "kill", Target: 0x550b19ba1f1f9b39},
		{At: 6871494853, Action: "kill", Target: 0xb18062c1f11cc09d},
	}, steps)
}

func TestPlanBounds(t *testing.T) {
	plan := fault.Plan{Seed: 7, Duration: time.Hour, Strikes: []fault.Strike{kills(2 * time.Second)}}
	steps := plan.Steps()
	require.InDelta(t, 1800, len(steps), 50)
	before := time.Duration(0)
	for _, step := range steps {
		require.GreaterOrEqual(t, step.At-before, 1500*time.Millisecond)
		require.LessOrEqual(t, step.At-before, 2500*time.Millisecond)
		require.Less(t, step.At, time.Hour)
		before = step.At
	}
}

// Adding a strike, of another action or of the same, leaves the others alone.
func TestStrikesAreIndependent(t *testing.T) {
	plan := fault.Plan{Seed: 7, Duration: time.Minute, Strikes: []fault.Strike{kills(2 * time.Second)}}
	alone := plan.Steps()
	plan.Strikes = []fault.Strike{
		{Action: fault.ActionLeave, Every: time.Second}, kills(2 * time.Second), {Action: fault.ActionKill, Every: 7 * time.Second, For: 1},
	}
	var kept []fault.Step
	for _, step := range plan.Steps() {
		if step.Action == fault.ActionKill && step.For == 0 {
			kept = append(kept, step)
		}
	}
	require.Equal(t, alone, kept)

	plan.Strikes = []fault.Strike{kills(2 * time.Second), kills(2 * time.Second)}
	steps := plan.Steps()
	require.NotEqual(t, steps[0].At, steps[1].At)
}

func TestPlanString(t *testing.T) {
	plan := fault.Plan{Seed: 42, Duration: time.Minute, Strikes: []fault.Strike{
		kills(2 * time.Second), {Action: "restart", EveryEffects: 500, For: time.Second},
	}}
	require.Equal(t, "seed 42, kill every 2s ±25%, restart every 500 effects for 1s", plan.String())
}

func TestPlanValidate(t *testing.T) {
	for problem, strike := range map[string]fault.Strike{
		"strike 0 has no action": {Every: 1},
		"strike kill has neither a time nor a number of effects between strikes, set one": {Action: fault.ActionKill},
		"strike kill has jitter 25, expected 0 to 1":                                      {Action: fault.ActionKill, Every: 1, Jitter: 25},
		"strike kill goes by time, but the plan has no duration":                          {Action: fault.ActionKill, Every: 1},
		"strike kill goes by effects, but the plan has no number of effects":              {Action: fault.ActionKill, EveryEffects: 1},
	} {
		require.EqualError(t, fault.Plan{Strikes: []fault.Strike{strike}}.Validate(), "read plan: "+problem)
	}
	pause := fault.Plan{Duration: 1, Strikes: []fault.Strike{{Action: fault.ActionPause, Every: 1}}}
	require.EqualError(t, pause.Validate(), "read plan: strike pause does not say how long a pause lasts")
}
