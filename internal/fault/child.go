package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// pipeGrace is how long an ended child's pipes are read on. Only a descendant
// that left the process group can keep them open that long.
const pipeGrace = 2 * time.Second

// Exit says how a child ended.
type Exit struct {
	// Code is the exit status; -1 when a signal ended the child.
	Code int
	// Signal is the signal that ended the child; 0 when it exited.
	Signal syscall.Signal
}

// String returns "exit status 3" or "signal killed".
func (e Exit) String() string {
	if e.Signal != 0 {
		return "signal " + e.Signal.String()
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// Child is a process that the harness started. Its methods are safe for
// concurrent use.
type Child struct {
	name  string
	pid   int
	log   *outputLog
	ready chan struct{}
	done  chan struct{} // closed when exit is set and every line was read
	exit  Exit

	mu    sync.Mutex
	ended bool // the process was waited for: its number may belong to another
	stdin io.Closer
}

// Start starts a child. It lives until it exits or Close is called.
func Start(command Command) (*Child, error) {
	cmd, err := command.build()
	if err != nil {
		return nil, err
	}
	child := &Child{
		name:  command.Name,
		log:   newOutputLog(command.Log, command.Name),
		ready: make(chan struct{}),
		done:  make(chan struct{}),
	}
	var pipes pipeSet
	input, output, link := pipes.open(), pipes.open(), pipes.open()
	if pipes.err != nil {
		pipes.close()
		return nil, fmt.Errorf("start child %s: %w", command.Name, pipes.err)
	}
	cmd.Stdin = input.read
	cmd.Stdout, cmd.Stderr = output.write, output.write
	cmd.ExtraFiles = []*os.File{link.write}
	child.stdin = input.write

	started := make(chan error, 1)
	go child.supervise(cmd, started, func() {
		var readers sync.WaitGroup
		readers.Go(func() { child.log.read(output.read) })
		readers.Go(func() { child.readLink(link.read, command.OnEvent) })
		exit := waitFor(cmd)
		child.killGroup(exit)
		// The group is dead, so the pipes end now, unless a descendant left
		// the group: it must not hold the harness up.
		deadline := time.Now().Add(pipeGrace)
		_ = output.read.SetReadDeadline(deadline)
		_ = link.read.SetReadDeadline(deadline)
		readers.Wait()
		_ = output.read.Close()
		_ = link.read.Close()
	})
	err = <-started
	for _, end := range []*os.File{input.read, output.write, link.write} {
		_ = end.Close() // the child has its own copy
	}
	if err != nil {
		for _, end := range []*os.File{input.write, output.read, link.read} {
			_ = end.Close()
		}
		return nil, fmt.Errorf("start child %s: %w", command.Name, err)
	}
	return child, nil
}

// supervise starts the process and stays with it to its end, on one thread: the
// kernel's death signal is tied to the thread that forked, so if that thread
// ended (as a Go thread may) the child would be killed for no reason.
func (c *Child) supervise(cmd *exec.Cmd, started chan<- error, attend func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	c.pid = cmd.Process.Pid
	started <- nil
	attend()
	close(c.done)
}

func waitFor(cmd *exec.Cmd) Exit {
	err := cmd.Wait()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		return Exit{Code: -1}
	}
	exit := Exit{Code: cmd.ProcessState.ExitCode()}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		exit.Signal = status.Signal()
	}
	return exit
}

// killGroup ends what the child left behind. A group's number is not given to a
// new process while the group has members, so this cannot hit a stranger; with
// no members it finds nobody.
func (c *Child) killGroup(exit Exit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = syscall.Kill(-c.pid, syscall.SIGKILL)
	c.ended = true
	c.exit = exit
	_ = c.stdin.Close()
}

// Name returns the name given in the Command.
func (c *Child) Name() string { return c.name }

// PID returns the process number.
func (c *Child) PID() int { return c.pid }

// Done is closed when the child has ended and everything it said was read.
func (c *Child) Done() <-chan struct{} { return c.done }

// Exit says how the child ended. Only valid after Done.
func (c *Child) Exit() Exit { return c.exit }

// Tail returns the last lines the child printed.
func (c *Child) Tail() []string { return c.log.tail() }

// Ready waits until the child has called Ready. It fails when the child ends
// first, with the last lines it printed, or when the context does.
func (c *Child) Ready(ctx context.Context) error {
	select {
	case <-c.ready:
		return nil
	case <-c.done:
		if c.wasReady() {
			return nil
		}
		return c.Failure("ended before it was ready")
	case <-ctx.Done():
		return fmt.Errorf("wait for child %s to be ready: %w", c.name, ctx.Err())
	}
}

func (c *Child) wasReady() bool {
	select {
	case <-c.ready:
		return true
	default:
		return false
	}
}

// Wait waits for the child's end.
func (c *Child) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-c.done:
		return c.exit, nil
	case <-ctx.Done():
		return Exit{}, fmt.Errorf("wait for child %s: %w", c.name, ctx.Err())
	}
}

// Failure makes an error of what happened to the child; once the child has
// ended, with how it ended and its last lines.
func (c *Child) Failure(what string) error {
	select {
	case <-c.done:
		return fmt.Errorf("child %s %s: %s; its last lines: %s", c.name, what, c.exit, c.log)
	default:
		return fmt.Errorf("child %s %s", c.name, what)
	}
}
