package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/hapax-go/hapax/internal/servers/probe"
	"github.com/hapax-go/hapax/internal/servers/process"
)

// How a server is stopped.
const (
	Clean = false // asked to stop
	Hard  = true  // SIGKILL
)

// StartTimeout bounds the wait for a server to answer after its start.
const StartTimeout = 120 * time.Second

const askDockerEvery = 2 * time.Second

// Restart stops a server that the launcher started, all its nodes, starts it
// again and returns when it answers. Servers from the environment are not ours
// to restart: that is an error.
func Restart(ctx context.Context, name string, hard bool) error {
	r, err := ours(name)
	if err != nil {
		return fmt.Errorf("restart %s: %w", name, err)
	}
	if err := r.Stop(ctx, hard); err != nil {
		return fmt.Errorf("restart %s: %w", name, err)
	}
	if _, err := r.Start(ctx); err != nil {
		return fmt.Errorf("restart %s: %w", name, err)
	}
	return nil
}

// KillNode kills node i, counted from 1, of a three-node Kafka.
func KillNode(ctx context.Context, i int) error {
	r, err := node(i)
	if err == nil {
		err = r.Stop(ctx, Hard)
	}
	if err != nil {
		return fmt.Errorf("kill kafka node %d: %w", i, err)
	}
	return nil
}

// StartNode starts node i again and returns when it serves.
func StartNode(ctx context.Context, i int) error {
	r, err := node(i)
	if err == nil {
		_, err = r.Start(ctx)
	}
	if err != nil {
		return fmt.Errorf("start kafka node %d: %w", i, err)
	}
	return nil
}

func ours(name string) (Record, error) {
	r, err := recordOf(name)
	if a, given, _ := FromEnv(name); given && a.URL != r.URL {
		return Record{}, fmt.Errorf("%s gives its address, so it is not ours to stop", Variable(name))
	}
	return r, err
}

// node narrows Kafka's record to one node.
func node(i int) (Record, error) {
	r, err := ours(Kafka)
	if err != nil {
		return r, err
	}
	if r.Nodes < 2 || i < 1 || i > r.Nodes {
		return r, fmt.Errorf("kafka runs %d nodes, expected one of at least 2: run `up --only kafka --nodes 3`", r.Nodes)
	}
	r.Hosts = r.Hosts[i-1 : i]
	if r.Compose != nil {
		only := *r.Compose
		only.Services = only.Services[i-1 : i]
		r.Compose = &only
		return r, nil
	}
	r.Processes = r.Processes[i-1 : i]
	return r, nil
}

// Start starts what is not running and waits, at most StartTimeout, until the
// server answers; it returns the version.
func (r Record) Start(ctx context.Context) (string, error) {
	if r.Compose != nil {
		if err := r.Compose.Run(ctx, append([]string{"up", "-d", "--no-deps"}, r.Compose.Services...)...); err != nil {
			return "", err
		}
	}
	for _, p := range r.Processes {
		if err := process.Start(p); err != nil {
			return "", err
		}
	}
	return r.Await(ctx, r.Probe)
}

// Await repeats ask, at most for StartTimeout, until it answers. It gives up at
// once, with the end of the log, when a process or container of the server has ended.
func (r Record) Await(ctx context.Context, ask func(context.Context) (string, error)) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, StartTimeout, fmt.Errorf("no answer within %s", StartTimeout))
	defer cancel()
	alive := r.alive
	if r.Compose != nil {
		alive = r.Compose.watch(ctx)
	}
	return probe.Await(ctx, ask, alive)
}

func (r Record) alive() error {
	for _, p := range r.Processes {
		if !p.Alive() {
			return fmt.Errorf("%s of %s ended; the end of %s:\n%s", p.Name, r.Name, p.LogFile(), p.LastLines(12))
		}
	}
	return nil
}

// Stop stops every process or container of the server; its data stays. Nodes of
// a cluster stop together: a Kafka node that leaves in order waits for a
// controller, which the last ones would never find.
func (r Record) Stop(ctx context.Context, hard bool) error {
	if r.Compose != nil {
		how := "stop"
		if hard {
			how = "kill"
		}
		return r.Compose.Run(ctx, append([]string{how}, r.Compose.Services...)...)
	}
	results := make(chan error, len(r.Processes))
	for _, p := range r.Processes {
		go func() { results <- process.Stop(ctx, p.PIDFile(), hard) }()
	}
	var errs []error
	for range r.Processes {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}

// watch returns a function that reports containers that ended. Docker is asked
// only now and then: each question is two programs run.
func (c Compose) watch(ctx context.Context) func() error {
	next := time.Now().Add(askDockerEvery)
	return func() error {
		if time.Now().Before(next) {
			return nil
		}
		next = time.Now().Add(askDockerEvery)
		out, err := c.command(ctx, append([]string{"ps", "-a", "--status", "exited", "--services"}, c.Services...)...).Output()
		ended := strings.Fields(string(out))
		if err != nil || len(ended) == 0 { // Docker that does not answer is no server that ended.
			return nil
		}
		log, _ := c.command(ctx, append([]string{"logs", "--no-color", "--tail", "12"}, ended...)...).CombinedOutput()
		return fmt.Errorf("the container of %s ended; the end of its log:\n%s", strings.Join(ended, ", "), strings.TrimSpace(string(log)))
	}
}

// Run runs one `docker compose` command on the launcher's project.
func (c Compose) Run(ctx context.Context, args ...string) error {
	if out, err := c.command(ctx, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("docker compose %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (c Compose) command(ctx context.Context, args ...string) *exec.Cmd {
	args = append([]string{"compose", "-p", c.Project, "-f", c.File, "--profile", "*"}, args...)
	command := exec.CommandContext(ctx, "docker", args...)
	command.Env = append(os.Environ(), c.Env...)
	return command
}
