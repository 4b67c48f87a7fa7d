package fault_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/fault"
)

func TestWorkload(t *testing.T) {
	workload := fault.Workload{Seed: 42, Events: 10_000, Keys: 50, Pad: 100, Duplicates: 0.2, Window: 30}
	sends := slices.Collect(workload.Sends())
	require.True(t, slices.Equal(sends, slices.Collect(workload.Sends())), "equal seeds, equal sends")

	place, last, copies, atOnce, keys := map[string]int{}, map[string]int64{}, 0, 0, map[string]bool{}
	first := map[string]fault.Event{}
	for i, send := range sends {
		require.Len(t, send.Pad, 100)
		if send.Copy == 0 {
			_, known := first[send.ID]
			require.False(t, known, "IDs are unique")
			require.Equal(t, last[send.Key]+1, send.Seq, "no gaps within a key")
			last[send.Key] = send.Seq
			first[send.ID], place[send.ID] = send.Event, i
			keys[send.Key] = true
			continue
		}
		require.Equal(t, first[send.ID], send.Event, "a copy is the same, byte for byte")
		copies++
		delete(place, send.ID) // at most one copy: the next would not be found
		if i > 0 && sends[i-1].ID == send.ID {
			atOnce++
		}
	}
	require.Len(t, first, 10_000)
	require.Len(t, keys, 50)
	require.Len(t, place, 10_000-copies)
	require.InDelta(t, 2000, copies, 150)
	require.InDelta(t, copies/2, atOnce, 150)
	firsts := slices.DeleteFunc(sends, func(send fault.Send) bool { return send.Copy > 0 })
	require.True(t, slices.EqualFunc(firsts, slices.Collect(workload.All()), func(send fault.Send, event fault.Event) bool {
		return send.Event == event
	}))
}

func TestWorkloadWindow(t *testing.T) {
	workload := fault.Workload{Seed: 1, Events: 2000, Duplicates: 1, Window: 10}
	require.Len(t, slices.Collect(workload.Sends()), 4000, "copies due after the end are sent at the end")
	number := map[string]int{} // how many events had been sent when this one was
	for send := range workload.Sends() {
		if send.Copy == 0 {
			number[send.ID] = len(number)
			continue
		}
		require.LessOrEqual(t, len(number)-1-number[send.ID], 10)
	}
}

func TestWorkloadSeeds(t *testing.T) {
	one := slices.Collect(fault.Workload{Seed: 1, Events: 100, Pad: 10}.All())
	two := slices.Collect(fault.Workload{Seed: 2, Events: 100, Pad: 10}.All())
	for i := range one {
		require.NotEqual(t, one[i].ID, two[i].ID)
		require.NotEqual(t, one[i].Pad, two[i].Pad)
	}
	for range (fault.Workload{Events: 10}).Sends() {
		break // stopping early is allowed
	}
}

// The first event of a seed: a change here makes old seeds worthless.
func TestWorkloadIsStable(t *testing.T) {
	for event := range (fault.Workload{Seed: 42, Events: 1, Pad: 16}).All() {
		require.Equal(t, "{2a-0 key-51 1 dhfl0ylkxrqfqa54}", fmt.Sprint(event))
	}
}

func TestSentKeepsTheBestKnownOutcome(t *testing.T) {
	const ok, failed, unknown = fault.SendOK, fault.SendFailed, fault.SendUnknown
	for _, c := range []struct {
		sends []fault.SendOutcome
		want  fault.SendOutcome
	}{
		{[]fault.SendOutcome{ok}, ok},
		{[]fault.SendOutcome{failed}, failed},
		{[]fault.SendOutcome{unknown}, unknown},
		{[]fault.SendOutcome{failed, ok}, ok},
		{[]fault.SendOutcome{unknown, ok}, ok},
		{[]fault.SendOutcome{ok, unknown}, ok},
		{[]fault.SendOutcome{ok, failed}, ok},
		{[]fault.SendOutcome{failed, unknown}, unknown},
		{[]fault.SendOutcome{unknown, failed}, unknown},
		{[]fault.SendOutcome{failed, failed}, failed},
	} {
		var sent fault.Sent
		for _, outcome := range c.sends {
			sent.Record(fault.Event{ID: "e", Key: "k", Seq: 3}, outcome)
		}
		require.Equal(t, []fault.Expected{{ID: "e", Key: "k", Seq: 3, Outcome: c.want}}, sent.Expected(), "%v", c.sends)
		require.EqualValues(t, len(c.sends), sent.Sends())
	}
}
