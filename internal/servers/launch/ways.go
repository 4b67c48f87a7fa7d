package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/internal/servers/process"
)

// obtain has the server in the first way that works.
func (l *launcher) obtain(ctx context.Context, name string) (servers.Record, error) {
	before, had := l.recorded(name)
	if a, given, err := servers.FromEnv(name); given && (err != nil || a.URL != before.URL) {
		return l.fromEnvironment(ctx, a, err)
	}
	nodes := 1
	if name == servers.Kafka {
		if nodes = l.Nodes; nodes == 0 {
			nodes = max(1, before.Nodes)
		}
	}
	if had && before.Nodes != nodes {
		l.step(name, fmt.Sprintf("stopping %d nodes to start %d", before.Nodes, nodes))
		if err := errors.Join(before.Stop(ctx, servers.Clean), l.keep(name, nil)); err != nil {
			return before, err
		}
		before, had = servers.Record{}, false
	}
	var missed []error
	if had {
		record, err := l.running(ctx, before)
		if err == nil {
			return record, nil
		}
		missed = append(missed, fmt.Errorf("already running: %w", err))
	}

	ports, err := l.picker.pick(name, recipes[name].ports(nodes), before.Ports)
	if err != nil {
		return before, err
	}
	s := &site{name: name, dir: siteDir(l.Dir, name, nodes), nodes: nodes, ports: ports, host: l.host,
		step: func(what string) { l.step(name, what) }}
	for _, way := range []func(context.Context, *site, *servers.Record) error{l.compose, l.native} {
		record := servers.Record{Nodes: nodes, Ports: ports}
		if err = way(ctx, s, &record); err == nil {
			return record, nil
		}
		missed = append(missed, err)
		if ctx.Err() != nil {
			break
		}
	}
	missed = append(missed, fmt.Errorf("to have it: start Docker, or run as root or with sudo on Debian, or give an address in %s", servers.Variable(name)))
	return before, errors.Join(missed...)
}

func (l *launcher) fromEnvironment(ctx context.Context, a servers.Address, err error) (servers.Record, error) {
	if err != nil {
		return servers.Record{}, err
	}
	l.step(a.Name, "asking the server in "+servers.Variable(a.Name))
	record := servers.Record{Address: a, Nodes: 1, Obtained: servers.FromEnvironment}
	if record.Version, err = a.Probe(ctx); err != nil {
		return record, fmt.Errorf("the address in %s does not answer: %w: correct it, or unset it to have a server started", servers.Variable(a.Name), err)
	}
	return record, nil
}

// running finds the recorded server again; nodes that died are started with the
// command they had. A server that died whole is left to the other ways.
func (l *launcher) running(ctx context.Context, r servers.Record) (servers.Record, error) {
	if r.Compose == nil && !slices.ContainsFunc(r.Processes, process.Spec.Alive) {
		return r, errors.New("its processes ended")
	}
	l.step(r.Name, "asking the running server")
	version, err := r.Probe(ctx)
	if err != nil {
		l.step(r.Name, "starting what died and waiting for an answer")
		version, err = r.Start(ctx)
	}
	if version != "" {
		r.Version = version
	}
	return r, err
}

func (l *launcher) compose(ctx context.Context, s *site, r *servers.Record) error {
	recipe := recipes[s.name]
	c, err := l.engine.run(ctx, s, recipe)
	if err == nil {
		r.Compose, r.Obtained = c, servers.FromCompose
		err = l.answer(ctx, s, r, servers.FromCompose)
	}
	if err != nil {
		if c != nil {
			s.step("docker compose failed: " + lastLine(err.Error()))
			err = errors.Join(err, c.Run(context.WithoutCancel(ctx), append([]string{"stop"}, c.Services...)...))
		}
		return fmt.Errorf("docker compose: %w", err)
	}
	return nil
}

func (l *launcher) native(ctx context.Context, s *site, r *servers.Record) error {
	err := l.runNative(ctx, s, r)
	if err != nil {
		// Half a server would only hold ports.
		return errors.Join(fmt.Errorf("native: %w", err), r.Stop(context.WithoutCancel(ctx), servers.Clean))
	}
	return nil
}

func (l *launcher) runNative(ctx context.Context, s *site, r *servers.Record) error {
	// Left by a launcher that was interrupted before it could record them.
	if err := stopAll(ctx, s.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	processes, from, err := recipes[s.name].native(ctx, s)
	if err != nil {
		return err
	}
	r.Processes, r.Obtained = processes, servers.FromNative+": "+from
	s.step("starting")
	for _, p := range processes {
		if err := process.Start(p); err != nil {
			return err
		}
	}
	return l.answer(ctx, s, r, servers.FromNative)
}

// answer waits until the server answers, then records it.
func (l *launcher) answer(ctx context.Context, s *site, r *servers.Record, origin string) (err error) {
	recipe := recipes[s.name]
	if r.Address, err = recipe.address(s); err != nil {
		return err
	}
	if r.Origin = origin; origin != servers.FromNative {
		r.Secure, r.CAFile = "", "" // an earlier native server's
	}
	s.step("waiting for an answer at " + r.Hosts[0])
	r.Version, err = r.Await(ctx, func(ctx context.Context) (string, error) {
		if recipe.settle != nil && origin == servers.FromNative {
			if err := recipe.settle(ctx, s); err != nil {
				return "", err
			}
		}
		return r.Probe(ctx)
	})
	if err != nil {
		return err
	}
	if r.Version == "" {
		r.Version = recipe.version
	}
	return l.keep(s.name, r)
}

// stopAll stops every process recorded in a server's folder.
func stopAll(ctx context.Context, dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.pid"))
	for _, file := range files {
		err = errors.Join(err, process.Stop(ctx, file, false))
	}
	return err
}
