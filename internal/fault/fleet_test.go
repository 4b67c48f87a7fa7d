package fault_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/fault"
)

const grace = 20 * time.Second

func newFleet(t *testing.T, size int, launch func(number int) fault.Command) *fault.Fleet {
	fleet := fault.NewFleet(func(number int) fault.Command {
		command := launch(number)
		command.Name = fmt.Sprintf("consumer-%d", number)
		return command
	}, nil)
	t.Cleanup(func() { require.NoError(t, fleet.Close()) })
	require.NoError(t, fleet.Start(within(t, grace), size))
	return fleet
}

func role(name string) func(int) fault.Command {
	return func(int) fault.Command { return fault.Command{Role: name} }
}

func TestFleetReplacesTheKilled(t *testing.T) {
	fleet := newFleet(t, 3, role("idle"))
	for target := range uint64(5) {
		require.NoError(t, fleet.Kill(within(t, grace), target))
		require.Equal(t, 3, fleet.Size())
	}
	require.Equal(t, fault.Counts{Started: 8, Kills: 5}, fleet.Counts())
	require.NoError(t, fleet.Err())
}

func TestFleetReplacesTheSelfKilled(t *testing.T) {
	fleet := newFleet(t, 1, func(number int) fault.Command {
		command := fault.Command{Role: "struck"}
		if number <= 3 {
			command.Failpoints = fmt.Sprintf("after-handle@%d", 10*number)
		}
		return command
	})
	require.Eventually(t, func() bool { return fleet.Counts().Started == 4 }, grace, time.Millisecond)
	require.NoError(t, fleet.Shutdown(grace))
	require.Equal(t, fault.Counts{Started: 4, Kills: 3}, fleet.Counts())
	require.NoError(t, fleet.Err())
}

// A child may begin to work, and die at a failpoint, before it is ready.
func TestFleetStartsWithTheSelfKilled(t *testing.T) {
	fleet := newFleet(t, 2, func(number int) fault.Command {
		command := fault.Command{Role: "hasty"}
		if number <= 2 {
			command.Failpoints = "after-handle@1"
		}
		return command
	})
	require.Eventually(t, func() bool { return fleet.Counts().Started == 4 }, grace, time.Millisecond)
	require.NoError(t, fleet.Shutdown(grace))
	require.NoError(t, fleet.Err())
}

func TestFleetJoinAndLeave(t *testing.T) {
	fleet := newFleet(t, 2, role("idle"))
	require.NoError(t, fleet.Join(within(t, grace), 3))
	require.ErrorIs(t, fleet.Join(within(t, grace), 3), fault.ErrNoTarget)
	require.Equal(t, 3, fleet.Size())
	require.NoError(t, fleet.Leave(1, 1, grace))
	require.NoError(t, fleet.Leave(1, 1, grace))
	require.ErrorIs(t, fleet.Leave(1, 1, grace), fault.ErrNoTarget)
	require.Equal(t, 1, fleet.Size())
	require.Equal(t, fault.Counts{Started: 3, Joins: 1, Leaves: 2}, fleet.Counts())
	require.NoError(t, fleet.Shutdown(grace))
	require.Equal(t, fault.Counts{Started: 3, Joins: 1, Leaves: 2}, fleet.Counts(), "the end of the run is no leave and no kill")
}

func TestFleetPauses(t *testing.T) {
	received, onEvent := numbers()
	fleet := newFleet(t, 1, func(int) fault.Command { return fault.Command{Role: "counter", OnEvent: onEvent} })
	receive(t, received)
	require.NoError(t, fleet.Pause(t.Context(), 0, 50*time.Millisecond))
	// It goes on: by more than what was under way when it was frozen.
	for last := receive(t, received); receive(t, received) < last+len(received)+10_000; {
	}
	require.Equal(t, fault.Counts{Started: 1, Pauses: 1}, fleet.Counts())
}

func TestFleetSupersedes(t *testing.T) {
	first, onFirst := numbers()
	heir, onHeir := numbers()
	fleet := newFleet(t, 1, func(number int) fault.Command {
		if number == 1 {
			return fault.Command{Role: "counter", OnEvent: onFirst}
		}
		return fault.Command{Role: "counter", OnEvent: onHeir}
	})
	receive(t, first)
	require.NoError(t, fleet.Supersede(t.Context(), 0, 50*time.Millisecond, func(context.Context) error {
		receive(t, heir)
		for len(first) > 0 { // what was under way
			receive(t, first)
		}
		return nil
	}))
	for last := receive(t, first); receive(t, first) < last+len(first)+10_000; {
	}
	require.Equal(t, fault.Counts{Started: 2, Pauses: 1, Joins: 1}, fleet.Counts())

	failure := errors.New("the heir has done nothing")
	require.ErrorIs(t, fleet.Supersede(t.Context(), 0, 0, func(context.Context) error { return failure }), failure)
	require.NoError(t, fleet.Shutdown(grace))
	require.ErrorIs(t, fleet.Supersede(t.Context(), 0, 0, func(context.Context) error { return nil }), fault.ErrNoTarget)
}

func TestFleetReportsUnexpectedEnds(t *testing.T) {
	fleet := fault.NewFleet(func(int) fault.Command { return fault.Command{Name: "bad", Role: "broken"} }, nil)
	require.ErrorContains(t, fleet.Start(within(t, grace), 1), "child bad ended before it was ready: exit status 3")
	<-fleet.Failed()
	require.ErrorContains(t, fleet.Err(), "child bad ended without being told to: exit status 3; its last lines: \n")
	require.Equal(t, 1, strings.Count(fleet.Err().Error(), "ended without"), "a child that fails by itself is not started again")
	require.NoError(t, fleet.Close())
}

func TestFleetReportsChildrenThatDoNotStop(t *testing.T) {
	fleet := newFleet(t, 2, role("stubborn"))
	require.ErrorContains(t, fleet.Leave(0, 0, 50*time.Millisecond), "child consumer-1 did not stop within 50ms of SIGTERM")
	require.ErrorContains(t, fleet.Shutdown(50*time.Millisecond), "child consumer-2 did not stop within 50ms of SIGTERM")
	require.ErrorContains(t, fleet.Join(t.Context(), 0), "fleet is closed")
}

// A failing child ends the faults at once.
func TestRunnerStopsWithTheFleet(t *testing.T) {
	fleet := fault.NewFleet(func(int) fault.Command { return fault.Command{Name: "bad", Role: "broken"} }, nil)
	t.Cleanup(func() { require.NoError(t, fleet.Close()) })
	require.Error(t, fleet.Start(within(t, grace), 1))
	runner := fault.Runner{Fleet: fleet, Plan: fault.Plan{Duration: time.Hour, Strikes: []fault.Strike{kills(time.Minute)}}}
	ctx := within(t, grace)
	_, err := runner.Run(ctx)
	require.ErrorContains(t, err, "child bad ended without being told to")
	require.NoError(t, ctx.Err(), "not only when the time was over")
}

func TestRunnerStrikesTheFleet(t *testing.T) {
	fleet := newFleet(t, 3, role("idle"))
	const ms = time.Millisecond
	runner := fault.Runner{Fleet: fleet, Plan: fault.Plan{
		Seed: 11, Duration: 2 * time.Second, Min: 2, Max: 4,
		Strikes: []fault.Strike{
			{Action: fault.ActionKill, Every: 200 * ms, Jitter: 0.5},
			{Action: fault.ActionPause, Every: 250 * ms, For: 50 * ms},
			{Action: fault.ActionJoin, Every: 300 * ms},
			{Action: fault.ActionLeave, Every: 350 * ms},
		},
	}}
	outcome, err := runner.Run(within(t, grace))
	require.NoError(t, err)
	done := map[fault.Action]int{}
	for _, step := range outcome.Done {
		done[step.Action]++
	}
	require.NoError(t, fleet.Shutdown(grace))
	counts := fleet.Counts()
	require.Equal(t, done, map[fault.Action]int{
		fault.ActionKill: counts.Kills, fault.ActionPause: counts.Pauses, fault.ActionJoin: counts.Joins, fault.ActionLeave: counts.Leaves,
	})
	require.GreaterOrEqual(t, counts.Kills, 7)
	require.Equal(t, 3+counts.Kills+counts.Joins, counts.Started)
}

// A child may be struck before it is ready; the one who let it join is not told
// that it failed.
func TestJoiningChildIsStruck(t *testing.T) {
	fleet := newFleet(t, 0, role("late"))
	for _, strike := range []func() error{
		func() error { return fleet.Leave(0, 0, grace) },
		func() error { return fleet.Kill(within(t, grace), 0) },
	} {
		joined := make(chan error, 1)
		go func() { joined <- fleet.Join(within(t, grace), 0) }()
		require.Eventually(t, func() bool { return fleet.Size() == 1 }, grace, time.Millisecond)
		require.NoError(t, strike())
		require.NoError(t, <-joined)
	}
	require.NoError(t, fleet.Err())
	require.Equal(t, fault.Counts{Started: 3, Kills: 1, Joins: 2, Leaves: 1}, fleet.Counts())
}
