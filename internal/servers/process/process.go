// Package process starts servers that outlive the command that started them,
// and finds them again.
//
// A process is known by a pid file in its server's folder. A pid alone proves
// nothing: after a crash or a reboot the kernel hands the same number to a
// stranger, and stopping "our" server would then kill somebody's editor. So the
// file also keeps the boot the process belongs to and the tick at which the
// kernel started it; the three together name one process for ever. A file whose
// process is gone is stale and simply ignored.
//
//	Start ──▶ running ──Stop──▶ gone (file removed)
//	             │
//	             └─ kill -9, reboot ──▶ stale file: Alive is false, Start works again
//
// Only Linux can start processes here; elsewhere servers come from Docker
// Compose or from the environment.
package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Spec says how one process is started. It is kept in the state file, so that a
// test can start a killed server again without the launcher.
type Spec struct {
	// Name is unique in its server, such as "node1"; it names the pid and log files.
	Name string `json:"name"`
	// Dir is the server's folder: <Dir>/<Name>.pid, <Dir>/log/<Name>.log.
	Dir string `json:"dir"`
	// Args is the command line; Args[0] is an absolute path.
	Args []string `json:"args"`
	// Env is added to PATH, LANG and TMPDIR, which are all a server inherits.
	Env []string `json:"env,omitempty"`
	// RunAs is the system user to run as. Empty: the caller's own.
	RunAs string `json:"runAs,omitempty"`
	// Leftovers are files that a killed run leaves behind and that would keep the
	// next one from starting. Start removes them, once it knows that run is over.
	Leftovers []string `json:"leftovers,omitempty"`
	// StopSignal asks for a clean stop. Zero: SIGTERM.
	StopSignal int `json:"stopSignal,omitempty"`
}

// identity is what a pid file holds.
type identity struct {
	PID        int    `json:"pid"`
	Started    string `json:"started"` // clock ticks after boot, as in /proc/<pid>/stat
	Boot       string `json:"boot"`    // the kernel's boot id
	StopSignal int    `json:"stopSignal,omitempty"`
}

// runMark begins the line that separates the runs in a log.
const runMark = "--- "

// ErrUnsupported is returned where processes cannot be started and watched.
var ErrUnsupported = errors.New("starting servers as processes needs Linux; use Docker Compose or give addresses in the environment")

// PIDFile is where the process is recorded while it runs.
func (s Spec) PIDFile() string { return filepath.Join(s.Dir, s.Name+".pid") }

// LogFile collects the output of every run.
func (s Spec) LogFile() string { return filepath.Join(s.Dir, "log", s.Name+".log") }

// Alive reports whether the recorded process still runs.
func (s Spec) Alive() bool {
	id, err := readIdentity(s.PIDFile())
	return err == nil && id.alive()
}

// LastLines is the end of the log, of its last run.
func (s Spec) LastLines(n int) string {
	data, err := os.ReadFile(s.LogFile())
	if err != nil {
		return err.Error()
	}
	text := strings.TrimSpace(string(data))
	if run := strings.LastIndex(text, "\n"+runMark); run >= 0 {
		text = text[run+1:]
	}
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func readIdentity(file string) (identity, error) {
	var id identity
	data, err := os.ReadFile(file)
	if err != nil {
		return id, err
	}
	if err := json.Unmarshal(data, &id); err != nil {
		return id, fmt.Errorf("read pid file %s: %w", file, err)
	}
	return id, nil
}

func (id identity) write(file string) error {
	data, err := json.Marshal(id)
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}
