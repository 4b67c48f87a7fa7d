package fault

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
)

// The environment by which a parent speaks to the children it starts.
const (
	envLink       = "HAPAX_FAULT_LINK"
	envRole       = "HAPAX_FAULT_ROLE"
	envFailpoints = "HAPAX_FAILPOINTS"
)

// Command says how to start a child.
type Command struct {
	// Name is the child's name in logs and errors. Required.
	Name string
	// Role is the function that ChildMain runs in the child. Empty: the program
	// decides by its arguments what to be, and calls Attach itself.
	Role string
	// Path is the program. Default: the running executable.
	Path string
	// Args are the arguments after the program's name.
	Args []string
	// Env is added to the harness's own environment, as "NAME=value".
	Env []string
	// Failpoints are where the child strikes itself, such as "after-handle@37": SIGKILL
	// at the 37th hit; or "after-handle@37:3s": SIGSTOP there, and SIGCONT after 3
	// seconds. Several are separated by commas. Empty: none.
	Failpoints string
	// OnEvent receives what the child sends with Emit, one call at a time and
	// in the child's order. The child waits while it runs. Nil: dropped.
	OnEvent func(data json.RawMessage)
	// Log receives every line the child prints, at level info. Nil: the lines
	// are kept for error reports only.
	Log *slog.Logger
}

func (c Command) build() (*exec.Cmd, error) {
	if c.Name == "" {
		return nil, fmt.Errorf("start child: command has no name")
	}
	if c.Path == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("start child %s: find own executable: %w", c.Name, err)
		}
		c.Path = self
	}
	cmd := exec.Command(c.Path, c.Args...)
	// Set even when empty: a harness that is a child itself must not pass its
	// own role and failpoints on. The last entry of a name wins.
	cmd.Env = append(append(os.Environ(), c.Env...), envLink+"=1", envRole+"="+c.Role, envFailpoints+"="+c.Failpoints)
	cmd.SysProcAttr = processAttributes()
	return cmd, nil
}
