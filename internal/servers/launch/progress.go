package launch

import (
	"fmt"
	"io"
	"sync"
	"time"
)

const remindEvery = 5 * time.Second

// progress prints what each server is waiting for: at once when that changes,
// and every few seconds while it does not.
type progress struct {
	mu    sync.Mutex
	out   io.Writer
	begun time.Time
	steps map[string]string
	since map[string]time.Time
}

func newProgress(out io.Writer) *progress {
	return &progress{out: out, begun: time.Now(), steps: map[string]string{}, since: map[string]time.Time{}}
}

func (p *progress) step(name, what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps[name], p.since[name] = what, time.Now()
	p.print(name, what)
}

// done forgets the server and returns how long it took.
func (p *progress) done(name, what string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.steps, name)
	p.print(name, what)
	return time.Since(p.begun)
}

func (p *progress) print(name, what string) {
	fmt.Fprintf(p.out, "%6.1fs  %-14s  %s\n", time.Since(p.begun).Seconds(), name, what)
}

// remind repeats the steps that last, until stop is closed.
func (p *progress) remind(stop <-chan struct{}) {
	tick := time.NewTicker(remindEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		p.mu.Lock()
		for name, what := range p.steps {
			if waited := time.Since(p.since[name]); waited >= remindEvery {
				p.print(name, fmt.Sprintf("still %s (%.0f s)", what, waited.Seconds()))
			}
		}
		p.mu.Unlock()
	}
}
