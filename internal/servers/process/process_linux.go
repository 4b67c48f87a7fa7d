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
