package fault_test

import (
	"bytes"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/fault"
)

func TestChildStopsGracefully(t *testing.T) {
	var log bytes.Buffer
	child := start(t, fault.Command{
		Name: "one", Role: "idle", Args: []string{"-x", "two words"}, Env: []string{"COLOUR=blue"},
		Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	exit, err := child.Terminate(20 * time.Second)
	require.NoError(t, err)
	require.Equal(t, fault.Exit{}, exit)
	require.Equal(t, []string{"idle with [-x two words] blue", "told to stop"}, child.Tail())
	require.Contains(t, log.String(), `msg="told to stop" child=one`)
	require.NoError(t, child.Kill(), "a child that has ended is left alone")
}

func TestChildEndsBeforeReady(t *testing.T) {
	child, err := fault.Start(fault.Command{Name: "two", Role: "broken"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, child.Close()) })
	err = child.Ready(within(t, 20*time.Second))
	require.ErrorContains(t, err, "child two ended before it was ready: exit status 3; its last lines: ")
	require.ErrorContains(t, err, "\n\tline 99\n\tno broker at 127.0.0.1:1")
	require.NotContains(t, err.Error(), "line 60\n", "only the last lines are kept")
}

func TestStartErrors(t *testing.T) {
	_, err := fault.Start(fault.Command{Role: "idle"})
	require.EqualError(t, err, "start child: command has no name")
	_, err = fault.Start(fault.Command{Name: "three", Path: "/no/such/program"})
	require.ErrorContains(t, err, "start child three: ")
	for name, command := range map[string]fault.Command{
		`role "oops" is unknown`:                             {Name: "four", Role: "oops"},
		`unknown failpoint "after-lunch", expected one of [`: {Name: "five", Role: "idle", Failpoints: "before-ack@1,after-lunch@1"},
		`expected point@hit`:                                 {Name: "six", Role: "idle", Failpoints: "before-ack"},
		`expected point@hit:pause`:                           {Name: "seven", Role: "idle", Failpoints: "before-ack@1:soon"},
	} {
		child, err := fault.Start(command)
		require.NoError(t, err)
		err = child.Ready(within(t, 20*time.Second))
		require.ErrorContains(t, err, name)
		require.ErrorContains(t, err, "exit status 2")
	}
}

func TestKill(t *testing.T) {
	child := start(t, fault.Command{Name: "victim", Role: "idle"})
	require.NoError(t, child.Kill())
	require.Equal(t, fault.Exit{Code: -1, Signal: syscall.SIGKILL}, wait(t, child))
	require.Equal(t, "signal killed", child.Exit().String())
}

// A frozen child sends nothing, a thawed one goes on where it was.
func TestStopAndContinue(t *testing.T) {
	received, onEvent := numbers()
	child := start(t, fault.Command{Name: "frozen", Role: "counter", OnEvent: onEvent})
	require.Equal(t, 0, receive(t, received))
	require.NoError(t, child.Stop())
	// What is in the pipe still comes; then silence.
	last, limit := 0, time.After(20*time.Second)
	for quiet := false; !quiet; {
		select {
		case last = <-received:
		case <-limit:
			require.FailNow(t, "the child was not frozen")
		case <-time.After(300 * time.Millisecond):
			quiet = true
		}
	}
	require.NoError(t, child.Continue())
	require.Equal(t, last+1, receive(t, received))
}

func TestTerminateThawsAFrozenChild(t *testing.T) {
	child := start(t, fault.Command{Name: "frozen", Role: "idle"})
	require.NoError(t, child.Stop())
	exit, err := child.Terminate(20 * time.Second)
	require.NoError(t, err)
	require.Equal(t, fault.Exit{}, exit)
}

func TestTerminateKillsAStubbornChild(t *testing.T) {
	child := start(t, fault.Command{Name: "stubborn", Role: "stubborn"})
	exit, err := child.Terminate(50 * time.Millisecond)
	require.ErrorContains(t, err, "child stubborn did not stop within 50ms of SIGTERM: exit status 2")
	require.ErrorContains(t, err, "fault_test.stubborn", "its goroutines")
	require.Equal(t, fault.Exit{Code: 2}, exit)
}

func TestFailpointKillsAtTheNthHit(t *testing.T) {
	received, onEvent := numbers()
	child := start(t, fault.Command{Name: "struck", Role: "struck", Failpoints: "after-handle@37", OnEvent: onEvent})
	require.Equal(t, syscall.SIGKILL, wait(t, child).Signal)
	require.Len(t, received, 37)
}

// A child that is to freeze does nothing for that long, and goes on then.
func TestFailpointFreezesAtTheNthHit(t *testing.T) {
	received, onEvent := numbers()
	before := time.Now()
	child := start(t, fault.Command{Name: "frozen", Role: "struck", Failpoints: "after-handle@37:1s", OnEvent: onEvent})
	for range 38 {
		receive(t, received)
	}
	require.GreaterOrEqual(t, time.Since(before), time.Second)
	require.NoError(t, child.Close())
}

// What a child started ends with it: when it is killed, and when it just ends
// and leaves a descendant behind that holds its pipes.
func TestGroupEndsWithTheChild(t *testing.T) {
	for name, args := range map[string][]string{"killed": nil, "ended": {"end"}} {
		t.Run(name, func(t *testing.T) {
			received, onEvent := numbers()
			child := start(t, fault.Command{Name: "parent", Role: "parent", Args: args, OnEvent: onEvent})
			descendant := receive(t, received)
			if name == "killed" {
				require.NoError(t, child.Kill())
			}
			wait(t, child)
			gone(t, descendant)
		})
	}
}

// A descendant that left the group outlives the child, but its hold on the pipe
// does not keep the harness waiting.
func TestEscapedDescendantHoldsNothingUp(t *testing.T) {
	received, onEvent := numbers()
	child := start(t, fault.Command{Name: "parent", Role: "parent", Args: []string{"end", "escape"}, OnEvent: onEvent})
	descendant := receive(t, received)
	wait(t, child)
	require.NotEmpty(t, processState(descendant))
	require.NoError(t, syscall.Kill(descendant, syscall.SIGKILL))
	gone(t, descendant)
}

// A signal reaches what the child started as well.
func TestStopFreezesTheGroup(t *testing.T) {
	received, onEvent := numbers()
	child := start(t, fault.Command{Name: "parent", Role: "parent", OnEvent: onEvent})
	descendant := receive(t, received)
	require.NoError(t, child.Stop())
	require.Eventually(t, func() bool { return strings.HasPrefix(processState(descendant), "T") }, grace, 10*time.Millisecond)
	require.NoError(t, child.Continue())
	require.Eventually(t, func() bool { return strings.HasPrefix(processState(descendant), "S") }, grace, 10*time.Millisecond)
}

// A harness that dies takes its children with it, even frozen ones.
func TestNoOrphans(t *testing.T) {
	for _, state := range []string{"working", "frozen"} {
		t.Run(state, func(t *testing.T) {
			received, onEvent := numbers()
			child := start(t, fault.Command{Name: "harness", Role: "harness", Args: []string{state}, OnEvent: onEvent})
			grandchild := receive(t, received)
			require.NoError(t, child.Kill())
			wait(t, child)
			gone(t, grandchild)
		})
	}
}

func TestWithoutAHarness(t *testing.T) {
	ctx, err := fault.Attach(t.Context())
	require.NoError(t, err)
	require.Equal(t, t.Context(), ctx)
	require.NoError(t, fault.Ready(ctx))
	require.NoError(t, fault.Emit(ctx, "nobody hears"))
}
