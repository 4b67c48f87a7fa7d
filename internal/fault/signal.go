package fault

import (
	"errors"
	"fmt"
	"syscall"
	"time"
)

// Signal sends a signal to the child and everything it started. A child that
// has ended is left alone: that is no error.
func (c *Child) Signal(signal syscall.Signal) error {
	// Once the process was waited for, its number may be given to somebody else,
	// so no signal is sent after killGroup has noted the end.
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return nil
	}
	// ESRCH, and EPERM on macOS, stand for a group of which only the dead are left.
	err := syscall.Kill(-c.pid, signal)
	if err != nil && !errors.Is(err, syscall.ESRCH) && !errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("send signal %s to child %s: %w", signal, c.name, err)
	}
	return nil
}

// Kill ends the child at once, with SIGKILL: no handler, no flush, no goodbye.
// It does not wait for the end.
func (c *Child) Kill() error { return c.Signal(syscall.SIGKILL) }

// Stop freezes the child, with SIGSTOP: its connections stay open and its
// leases run out.
func (c *Child) Stop() error { return c.Signal(syscall.SIGSTOP) }

// Continue thaws a child that Stop froze.
func (c *Child) Continue() error { return c.Signal(syscall.SIGCONT) }

// Terminate asks the child to stop, with SIGTERM, and waits for its end. After
// the grace it is killed, and that is an error, which says what all of its goroutines
// were at.
func (c *Child) Terminate(grace time.Duration) (Exit, error) {
	// A frozen child takes no SIGTERM before it is thawed.
	if err := errors.Join(c.Signal(syscall.SIGTERM), c.Continue()); err != nil {
		return Exit{}, err
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-c.done:
		return c.exit, nil
	case <-timer.C:
		err := errors.Join(c.quit(), c.Close())
		return c.exit, errors.Join(c.Failure(fmt.Sprintf("did not stop within %s of SIGTERM", grace)), err)
	}
}

// quit makes a Go program print its goroutines and end. It gives it a moment for that.
func (c *Child) quit() error {
	c.log.keepUpTo(dumpedLines)
	if err := c.Signal(syscall.SIGQUIT); err != nil {
		return err
	}
	select {
	case <-c.done:
	case <-time.After(dumpTime):
	}
	return nil
}

const (
	dumpTime    = 2 * time.Second
	dumpedLines = 2000
)

// Close kills the child and its process group, and waits for the end.
func (c *Child) Close() error {
	if err := c.Kill(); err != nil {
		return err
	}
	<-c.done
	return nil
}
