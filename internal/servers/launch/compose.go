package launch

import (
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hapax-go/hapax/internal/servers"
)

const engineTimeout = 10 * time.Second

// engine is the Docker engine, asked once.
type engine struct {
	file    string // compose.yaml
	project string
	check   func() error
	mu      sync.Mutex // two `up` of one project race to make its network
}

func newEngine(root, dir string) *engine {
	sum := fnv.New32a()
	sum.Write([]byte(dir))
	e := &engine{file: filepath.Join(root, "compose.yaml"), project: fmt.Sprintf("hapax-%08x", sum.Sum32())}
	e.check = sync.OnceValue(func() error {
		if _, err := os.Stat(e.file); err != nil {
			return err
		}
		for _, args := range [][]string{{"info"}, {"compose", "version"}} {
			ctx, cancel := context.WithTimeout(context.Background(), engineTimeout)
			out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
			cancel()
			if err != nil {
				return fmt.Errorf("%w (docker %s: %s)", err, strings.Join(args, " "), lastLine(string(out)))
			}
		}
		return nil
	})
	return e
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// run starts the server's containers, pulling their image if need be.
func (e *engine) run(ctx context.Context, s *site, r recipe) (*servers.Compose, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s.step("starting containers (the first time, pulling the image)")
	c := &servers.Compose{File: e.file, Project: e.project, Services: r.services(s.nodes), Env: environment(s.ports)}
	return c, c.Run(ctx, append([]string{"up", "-d"}, c.Services...)...)
}

// down stops the containers of the named servers, also those that no record
// names: of a size left for another, or of an `up` that failed or was
// interrupted. With clean it removes them and their volumes, and the network
// with the last. No names: the whole project.
func (e *engine) down(ctx context.Context, names []string, clean bool) error {
	if e.check() != nil {
		return nil // what runs without the engine is not ours
	}
	args := []string{"stop"}
	if clean {
		args = []string{"down", "-v"}
	}
	for _, name := range names {
		args = append(args, recipes[name].services(1)...)
		if name == servers.Kafka {
			args = append(args, recipes[name].services(3)...)
		}
	}
	return servers.Compose{File: e.file, Project: e.project}.Run(ctx, args...)
}
