package servers

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hapax-go/hapax/internal/servers/process"
)

// DirVariable names the environment variable that moves the servers' folder.
const DirVariable = "HAPAX_SERVERS_DIR"

// Record is one running server in the state file.
type Record struct {
	Address
	// Obtained says how, in words: "native: redis-server 5:7.0.15-1~deb12u10".
	Obtained string `json:"obtained"`
	// Nodes is the number of Kafka nodes; 1 for every other server.
	Nodes int `json:"nodes"`
	// Ports are the ports taken, by purpose.
	Ports map[string]int `json:"ports"`
	// Processes run a native server, in the order they are started.
	Processes []process.Spec `json:"processes,omitempty"`
	// Compose runs a server in Docker.
	Compose *Compose `json:"compose,omitempty"`
}

// Compose is what `docker compose` needs to find its services again.
type Compose struct {
	File     string   `json:"file"`
	Project  string   `json:"project"`
	Services []string `json:"services"` // one for each node
	Env      []string `json:"env"`      // the ports, for the file's variables
}

// State is the state file: the servers that `up` brought up, by name.
type State map[string]Record

// Dir is the servers' folder: HAPAX_SERVERS_DIR, else .servers beside the
// nearest go.mod above the working directory.
func Dir() (string, error) {
	if dir := os.Getenv(DirVariable); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	root, err := ModuleRoot(dir)
	if err != nil {
		return "", err
	}
	return filepath.Join(root, ".servers"), nil
}

// ModuleRoot is the nearest folder with a go.mod, from dir upwards.
func ModuleRoot(dir string) (string, error) {
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("no go.mod in %s or above: run inside the repository, or set %s", dir, DirVariable)
		}
	}
}

// StateFile is the state file's path in the servers' folder.
func StateFile(dir string) string { return filepath.Join(dir, "servers.json") }

// ReadState reads the state file in dir. A missing file is an empty state.
func ReadState(dir string) (State, error) {
	data, err := os.ReadFile(StateFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	state := State{}
	if err := json.Unmarshal(data, &state); err != nil {
		return nil, fmt.Errorf("read state %s: %w: remove the file and bring the servers up again", StateFile(dir), err)
	}
	return state, nil
}

// Write replaces the state file in dir: a reader sees the old or the new one.
func (s State) Write(dir string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	temporary := StateFile(dir) + ".new"
	if err := os.WriteFile(temporary, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return os.Rename(temporary, StateFile(dir))
}
