package launch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/internal/servers/process"
)

// Down stops what `Up` started, also what it could not record, and nothing else.
// With clean it removes the data as well; logs go with it.
func Down(ctx context.Context, o Options, clean bool) (err error) {
	only := o.Only
	if len(o.Only) == 0 {
		o.Only = servers.Names()
	}
	for _, name := range o.Only {
		if err := servers.CheckName(name); err != nil {
			return err
		}
	}
	unlock, err := lock(ctx, o.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	state, err := servers.ReadState(o.Dir)
	if err != nil {
		return err
	}
	p := newProgress(o.Out)
	errs := make([]error, len(o.Only))
	var stopping sync.WaitGroup
	for i, name := range o.Only {
		record, recorded := state[name]
		stopping.Go(func() { errs[i] = down(ctx, o, name, record, recorded, clean, p) })
	}
	stopping.Wait()
	errs = append(errs, newEngine(o.Root, o.Dir).down(ctx, only, clean))
	for i, name := range o.Only {
		if errs[i] == nil {
			delete(state, name)
		}
	}
	return errors.Join(append(errs, state.Write(o.Dir))...)
}

func down(ctx context.Context, o Options, name string, record servers.Record, recorded, clean bool, p *progress) error {
	dirs, err := siteDirs(o.Dir, name)
	if err != nil {
		return err
	}
	var strays []string
	for _, dir := range dirs {
		found, err := filepath.Glob(filepath.Join(dir, "*.pid"))
		if err != nil {
			return err
		}
		strays = append(strays, found...)
	}
	if recorded || len(strays) > 0 {
		p.step(name, "stopping")
		errs := []error{record.Stop(ctx, servers.Clean)}
		for _, file := range strays {
			errs = append(errs, process.Stop(ctx, file, false))
		}
		if err := errors.Join(errs...); err != nil {
			return fmt.Errorf("stop %s: %w", name, err)
		}
		p.done(name, "down")
	}
	if !clean {
		return nil
	}
	for _, dir := range dirs {
		if err := errors.Join(os.RemoveAll(dir), os.RemoveAll(elsewhere(dir))); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	return nil
}

// siteDirs are the folders of a server in all its sizes: kafka, kafka-3.
func siteDirs(root, name string) ([]string, error) {
	sized, err := filepath.Glob(filepath.Join(root, name+"-[0-9]"))
	return append([]string{filepath.Join(root, name)}, sized...), err
}

// Status asks every recorded server once.
func Status(ctx context.Context, dir string) ([]Result, error) {
	state, err := servers.ReadState(dir)
	if err != nil {
		return nil, err
	}
	names := slices.SortedFunc(maps.Keys(state), func(a, b string) int {
		return slices.Index(servers.Names(), a) - slices.Index(servers.Names(), b)
	})
	results := make([]Result, len(names))
	var asking sync.WaitGroup
	for i, name := range names {
		asking.Go(func() {
			results[i].Record = state[name]
			_, results[i].Err = state[name].Probe(ctx)
		})
	}
	asking.Wait()
	return results, nil
}

// Table is the rows for servers.Table: what was had, where and how; then, under
// the table, why the rest was not.
func Table(results []Result) (rows [][]string, missing string) {
	rows = [][]string{{"SERVER", "VERSION", "ADDRESS", "OBTAINED", "READY IN"}}
	var why strings.Builder
	for _, r := range results {
		if r.Err != nil {
			rows = append(rows, []string{r.Name, "", "not up", "", ""})
			fmt.Fprintf(&why, "\n%s is not up:\n  %s\n", r.Name, strings.ReplaceAll(r.Err.Error(), "\n", "\n  "))
			continue
		}
		ready := ""
		if r.Ready > 0 {
			ready = fmt.Sprintf("%.1f s", r.Ready.Seconds())
		}
		rows = append(rows, []string{r.Name, r.Version, strings.Join(r.Hosts, ","), r.Obtained, ready})
	}
	return rows, why.String()
}
