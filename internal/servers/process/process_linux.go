package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	pollEvery    = 20 * time.Millisecond
	cleanStopMax = 20 * time.Second
)

// Start runs the process in a session of its own, so that neither Ctrl-C nor
// the end of the caller reaches it. It does nothing when it already runs.
func Start(s Spec) error {
	if s.Alive() {
		return nil
	}
	for _, file := range s.Leftovers {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("start %s: %w", s.Name, err)
		}
	}
	attr, err := s.attributes()
	if err != nil {
		return fmt.Errorf("start %s: %w", s.Name, err)
	}
	if err := os.MkdirAll(filepath.Dir(s.LogFile()), 0o755); err != nil {
		return fmt.Errorf("start %s: %w", s.Name, err)
	}
	log, err := os.OpenFile(s.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", s.Name, err)
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("start %s: %w", s.Name, err)
	}
	defer null.Close()
	attr.Files = []*os.File{null, log, log}
	fmt.Fprintf(log, runMark+"%s %s\n", time.Now().Format(time.RFC3339), strings.Join(s.Args, " "))

	p, err := os.StartProcess(s.Args[0], s.Args, attr)
	if err != nil {
		return fmt.Errorf("start %s: %w", s.Name, err)
	}
	// Even a process that died at once stays readable in /proc: we are its
	// parent and have not waited for it.
	id := identity{PID: p.Pid, Started: statField(p.Pid, fieldStarted), Boot: bootID(), StopSignal: s.StopSignal}
	if err := id.write(s.PIDFile()); err != nil {
		return errors.Join(fmt.Errorf("record %s: %w", s.Name, err), p.Kill())
	}
	return p.Release()
}

func (s Spec) attributes() (*os.ProcAttr, error) {
	env := []string{"LANG=C.UTF-8", "PATH=" + os.Getenv("PATH")}
	if tmp := os.Getenv("TMPDIR"); tmp != "" {
		env = append(env, "TMPDIR="+tmp)
	}
	sys := &syscall.SysProcAttr{Setsid: true}
	if s.RunAs != "" {
		uid, gid, err := Lookup(s.RunAs)
		if err != nil {
			return nil, err
		}
		sys.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	// "/" is a folder every user may be in; all paths given are absolute.
	return &os.ProcAttr{Dir: "/", Env: append(env, s.Env...), Sys: sys}, nil
}

// Run runs a command of the process to its end, such as the one that prepares
// its data folder. The output goes to the process's log; the error holds its end.
func Run(ctx context.Context, s Spec) error {
	attr, err := s.attributes()
	if err != nil {
		return fmt.Errorf("run %s: %w", s.Args[0], err)
	}
	if err := os.MkdirAll(filepath.Dir(s.LogFile()), 0o755); err != nil {
		return fmt.Errorf("run %s: %w", s.Args[0], err)
	}
	command := exec.CommandContext(ctx, s.Args[0], s.Args[1:]...)
	command.Dir, command.Env, command.SysProcAttr = attr.Dir, attr.Env, attr.Sys
	out, err := command.CombinedOutput()
	if kept := os.WriteFile(s.LogFile(), out, 0o644); kept != nil {
		return errors.Join(err, kept)
	}
	if err != nil {
		return fmt.Errorf("run %s: %w; the end of %s:\n%s", strings.Join(s.Args, " "), err, s.LogFile(), s.LastLines(12))
	}
	return nil
}

// Lookup resolves a system user to its numbers.
func Lookup(name string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, fmt.Errorf("look up user %s: %w", name, err)
	}
	uid, err = strconv.Atoi(u.Uid)
	if err != nil {
		return 0, 0, fmt.Errorf("look up user %s: %w", name, err)
	}
	gid, err = strconv.Atoi(u.Gid)
	if err != nil {
		return 0, 0, fmt.Errorf("look up user %s: %w", name, err)
	}
	return uid, gid, nil
}

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

// alive is false for zombies: their parent may be a test that never waits.
func (id identity) alive() bool {
	if id.PID <= 1 || id.Boot != bootID() || statField(id.PID, fieldStarted) != id.Started {
		return false
	}
	state := statField(id.PID, fieldState)
	return state != "" && state != "Z" && state != "X"
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

// Lock waits until no other process holds the lock file, then holds it.
func Lock(ctx context.Context, file string) (unlock func() error, err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f.Close, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", file, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("lock %s, which another run holds: %w", file, ctx.Err()), f.Close())
		case <-tick.C:
		}
	}
}
