package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/internal/servers/process"
)

// Options say what to bring up or down, and where.
type Options struct {
	// Dir is the servers' folder.
	Dir string
	// Root is the folder of compose.yaml.
	Root string
	// Only names the servers. Empty: `Up` takes the default ones, `Down` all.
	Only []string
	// Nodes is the number of Kafka nodes, 1 or 3. Zero: as many as run, else 1.
	Nodes int
	// Out takes the progress lines.
	Out io.Writer
}

// Result is one server that was asked for: up, or Err says why not.
type Result struct {
	servers.Record
	Ready time.Duration // from the call of Up until it answered
	Err   error
}

// launcher is one run of Up.
type launcher struct {
	Options
	*progress
	picker picker
	engine *engine
	host   *host

	mu    sync.Mutex // guards state and its file
	state servers.State
}

// Up brings up what is asked for, all at once, and returns one result for each
// server in the order asked. An error means that nothing could be tried.
func Up(ctx context.Context, o Options) (results []Result, err error) {
	if len(o.Only) == 0 {
		o.Only = servers.DefaultNames()
	}
	for _, name := range o.Only {
		if err := servers.CheckName(name); err != nil {
			return nil, err
		}
	}
	if o.Nodes != 0 && o.Nodes != 1 && o.Nodes != 3 {
		return nil, fmt.Errorf("%d kafka nodes: expected 1 or 3", o.Nodes)
	}
	unlock, err := lock(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	state, err := servers.ReadState(o.Dir)
	if err != nil {
		return nil, err
	}
	l := &launcher{Options: o, progress: newProgress(o.Out), engine: newEngine(o.Root, o.Dir),
		host: &host{log: filepath.Join(o.Dir, "install")}, state: state}
	// A server whose turn comes late must not be given a port that another one
	// had before and will want back.
	l.picker.reserved = map[int]string{}
	for name, record := range state {
		for port := range maps.Values(record.Ports) {
			l.picker.reserved[port] = name
		}
	}

	var reminding, working sync.WaitGroup
	stop := make(chan struct{})
	reminding.Go(func() { l.remind(stop) })
	results = make([]Result, len(o.Only))
	for i, name := range o.Only {
		working.Go(func() { results[i] = l.bring(ctx, name) })
	}
	working.Wait()
	close(stop)
	reminding.Wait()
	return results, nil
}

func lock(ctx context.Context, dir string) (func() error, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make servers' folder: %w", err)
	}
	return process.Lock(ctx, filepath.Join(dir, "lock"))
}

func (l *launcher) bring(ctx context.Context, name string) Result {
	record, err := l.obtain(ctx, name)
	if err != nil {
		return Result{Record: servers.Record{Address: servers.Address{Name: name}}, Ready: l.done(name, "not up"), Err: err}
	}
	return Result{Record: record, Ready: l.done(name, "up")}
}

// keep writes the record to the state file; a nil record takes it out.
func (l *launcher) keep(name string, record *servers.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.state, name)
	if record != nil {
		l.state[name] = *record
	}
	return l.state.Write(l.Dir)
}

func (l *launcher) recorded(name string) (servers.Record, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	record, ok := l.state[name]
	return record, ok
}
