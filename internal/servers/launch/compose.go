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
				lines := strings.Split(strings.TrimSpace(string(out)), "\n")
				return fmt.Errorf("%w (docker %s: %s)", err, strings.Join(args, " "), lines[len(lines)-1])
			}
		}
		return nil
	})
	return e
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
