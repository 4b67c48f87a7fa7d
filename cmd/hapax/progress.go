package main

import (
	"fmt"
	"io"
	"time"
)

// progress tells how far long work is: on a terminal in place, elsewhere in a line
// every ten seconds, so that logs stay short.
type progress struct {
	out   io.Writer
	what  string
	count int
	live  bool
	told  time.Time
}

func newProgress(out io.Writer, what string) *progress {
	return &progress{out: out, what: what, live: isTerminal(out), told: time.Now()}
}

func (p *progress) step() {
	p.count++
	switch since := time.Since(p.told); {
	case p.live && since > 200*time.Millisecond:
		_, _ = fmt.Fprintf(p.out, "\r%d %s", p.count, p.what)
		p.told = time.Now()
	case !p.live && since > 10*time.Second:
		_, _ = fmt.Fprintf(p.out, "%d %s\n", p.count, p.what)
		p.told = time.Now()
	}
}

func (p *progress) done() {
	if p.live {
		_, _ = fmt.Fprint(p.out, "\r\x1b[K")
	}
}

// during does work that has no steps to count, such as one statement of a database,
// and tells how long it has been at it: on a terminal in place, from the first second
// on, elsewhere in a line every ten seconds.
func during[T any](out io.Writer, what string, work func() (T, error)) (T, error) {
	every, line := 10*time.Second, "%s: %s\n"
	if isTerminal(out) {
		every, line = time.Second, "\r%s: %s\x1b[K"
		defer func() { _, _ = fmt.Fprint(out, "\r\x1b[K") }()
	}
	done, told, began := make(chan struct{}), make(chan struct{}), time.Now()
	go func() {
		defer close(told)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				_, _ = fmt.Fprintf(out, line, what, time.Since(began).Round(time.Second))
			case <-done:
				return
			}
		}
	}()
	defer func() { close(done); <-told }()
	return work()
}
