package fault_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/internal/failpoint"
	"github.com/hapax-go/hapax/internal/fault"
)

func TestMain(m *testing.M) {
	fault.ChildMain(map[string]func(context.Context, []string) int{
		"idle":     idle,
		"broken":   broken,
		"late":     late,
		"stubborn": stubborn,
		"counter":  counter,
		"struck":   struck,
		"hasty":    hasty,
		"parent":   parent,
		"harness":  harness,
		"worker":   worker,
	})
	goleak.VerifyTestMain(m)
}

// idle works until it is told to stop.
func idle(ctx context.Context, args []string) int {
	fmt.Println("idle with", args, os.Getenv("COLOUR"))
	_ = fault.Ready(ctx)
	<-ctx.Done()
	fmt.Fprintln(os.Stderr, "told to stop")
	return 0
}

// broken ends before it is ready.
func broken(context.Context, []string) int {
	for i := range 100 {
		fmt.Println("line", i)
	}
	fmt.Fprint(os.Stderr, "no broker at 127.0.0.1:1") // no line end
	return 3
}

// late never becomes ready.
func late(ctx context.Context, _ []string) int {
	<-ctx.Done()
	return 0
}

// stubborn does not stop.
func stubborn(ctx context.Context, _ []string) int {
	signal.Ignore(syscall.SIGTERM)
	_ = fault.Ready(ctx)
	select {}
}

// counter sends rising numbers for as long as it runs.
func counter(ctx context.Context, _ []string) int {
	_ = fault.Ready(ctx)
	for n := 0; ctx.Err() == nil; n++ {
		if fault.Emit(ctx, n) != nil {
			return 1
		}
	}
	return 0
}

// hasty works before it is ready.
func hasty(ctx context.Context, args []string) int {
	if failpoint.Hit(failpoint.AfterHandle) != nil {
		return 1
	}
	return idle(ctx, args)
}

// struck passes a failpoint again and again, and says so before.
func struck(ctx context.Context, _ []string) int {
	_ = fault.Ready(ctx)
	for n := 1; ctx.Err() == nil; n++ {
		_ = fault.Emit(ctx, n)
		_ = failpoint.Hit(failpoint.AfterHandle)
	}
	return 0
}

// parent starts a process of its own that ignores SIGTERM, and ends or waits.
func parent(ctx context.Context, args []string) int {
	// One process to its end: a shell that waits for the start of a command of its
	// own (vfork) cannot be stopped until that command runs.
	cmd := exec.Command("sh", "-c", "trap '' TERM; exec sleep 3600")
	cmd.Stdout = os.Stdout // keeps the harness's pipe open
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: slices.Contains(args, "escape")}
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
		return 1
	}
	_ = fault.Emit(ctx, cmd.Process.Pid)
	_ = fault.Ready(ctx)
	if slices.Contains(args, "end") {
		return 0
	}
	<-ctx.Done()
	return 0
}

// harness has a child of its own.
func harness(ctx context.Context, args []string) int {
	command := fault.Command{Name: "grandchild", Role: "stubborn"}
	if args[0] == "foreign" {
		command = fault.Command{Name: "grandchild", Path: "sh", Args: []string{"-c", "echo ready >&3; while :; do sleep 1; done"}}
	}
	child, err := fault.Start(command)
	if err == nil {
		err = child.Ready(ctx)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if args[0] == "frozen" {
		_ = child.Stop()
	}
	_ = fault.Emit(ctx, child.PID())
	_ = fault.Ready(ctx)
	<-ctx.Done()
	return 0
}

// start starts a child and waits until it is ready.
func start(t *testing.T, command fault.Command) *fault.Child {
	t.Helper()
	child, err := fault.Start(command)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, child.Close()) })
	require.NoError(t, child.Ready(within(t, 20*time.Second)))
	return child
}

func within(t *testing.T, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func wait(t *testing.T, child *fault.Child) fault.Exit {
	t.Helper()
	exit, err := child.Wait(within(t, 20*time.Second))
	require.NoError(t, err)
	return exit
}

// numbers collects what a child emits.
func numbers() (<-chan int, func(json.RawMessage)) {
	received := make(chan int, 1<<20)
	return received, func(data json.RawMessage) {
		var n int
		if json.Unmarshal(data, &n) == nil {
			select {
			case received <- n:
			default: // the test has seen enough
			}
		}
	}
}

func receive(t *testing.T, from <-chan int) int {
	t.Helper()
	select {
	case n := <-from:
		return n
	case <-time.After(20 * time.Second):
		require.FailNow(t, "the child sent nothing")
		return 0
	}
}

// gone waits until a process is no more, or a zombie that only its new parent
// can bury.
func gone(t *testing.T, pid int) {
	t.Helper()
	require.Eventually(t, func() bool {
		state := processState(pid)
		return state == "" || strings.HasPrefix(state, "Z")
	}, 20*time.Second, 10*time.Millisecond, "process %d still runs", pid)
}

// processState is a letter and details, as ps prints them; empty when there is no
// such process.
func processState(pid int) string {
	state, _ := exec.Command("ps", "-o", "stat=", "-p", fmt.Sprint(pid)).Output()
	return strings.TrimSpace(string(state))
}
