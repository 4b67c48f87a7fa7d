package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"
)

const (
	pollEvery    = 20 * time.Millisecond
	cleanStopMax = 20 * time.Second
)

// Stop ends the process named by a pid file and all its descendants, and
// removes the file. Clean stops ask first and kill after 20 s or when ctx ends;
// hard ones send SIGKILL at once. A stale file is removed without a signal.
func Stop(ctx context.Context, file string, hard bool) error {
	id, err := readIdentity(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if id.alive() {
		// Taken before the leader dies: PostgreSQL's and Erlang's children leave
		// the leader's process group, and afterwards nothing links them to it.
		family := descendants(id.PID)
		if !hard {
			signal := syscall.SIGTERM
			if id.StopSignal != 0 {
				signal = syscall.Signal(id.StopSignal)
			}
			clean, cancel := context.WithTimeout(ctx, cleanStopMax)
			if err := syscall.Kill(id.PID, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
				cancel()
				return fmt.Errorf("stop pid %d of %s: %w", id.PID, file, err)
			}
			id.awaitEnd(clean)
			cancel()
		}
		for _, member := range append([]identity{id}, family...) {
			if !member.alive() {
				continue
			}
			if err := syscall.Kill(member.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill pid %d of %s: %w", member.PID, file, err)
			}
		}
		// SIGKILL cannot be refused, so this ends even when ctx already has.
		for _, member := range append([]identity{id}, family...) {
			kill, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanStopMax)
			gone := member.awaitEnd(kill)
			cancel()
			if !gone {
				return fmt.Errorf("stop %s: pid %d is still there %s after SIGKILL", file, member.PID, cleanStopMax)
			}
		}
	}
	return os.Remove(file)
}

// alive is false for zombies: their parent may be a test that never waits. But a
// zombie that still has threads is one whose first thread ended first; the others
// hold its ports and files for a moment longer.
func (id identity) alive() bool {
	if id.PID <= 1 || id.Boot != bootID() || statField(id.PID, fieldStarted) != id.Started {
		return false
	}
	state := statField(id.PID, fieldState)
	ended := state == "" || state == "X" || state == "Z" && !manyThreads(id.PID)
	return !ended
}

// awaitEnd polls: the kernel tells only a parent that a process ended.
func (id identity) awaitEnd(ctx context.Context) bool {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for id.alive() {
		select {
		case <-ctx.Done():
			return !id.alive()
		case <-tick.C:
		}
	}
	return true
}

func descendants(root int) []identity {
	children := map[int][]int{}
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			parent, _ := strconv.Atoi(statField(pid, fieldParent))
			children[parent] = append(children[parent], pid)
		}
	}
	var found []identity
	for queue := children[root]; len(queue) > 0; queue = queue[1:] {
		found = append(found, identity{PID: queue[0], Started: statField(queue[0], fieldStarted), Boot: bootID()})
		queue = append(queue, children[queue[0]]...)
	}
	return found
}
