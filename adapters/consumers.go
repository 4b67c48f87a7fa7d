package adapters

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
)

// Consumers are the open consumers of a subscriber, one for each call of Subscribe. C
// is the adapter's own type. The zero value is ready.
type Consumers[C comparable] struct {
	mu     sync.Mutex
	open   map[C]*consuming
	closed bool
}

// Running is how a consumer that runs is ended.
type Running struct {
	// Stop makes it take no more messages. Stopped is closed then; it may stop by itself.
	Stop    func()
	Stopped <-chan struct{}
	// Leave drains it and leaves the group. It is called once.
	Leave func() error
}

type consuming struct {
	Running
	gone    chan struct{}
	failure error // of leaving; read after gone
}

// Start takes a consumer in, which leaves when ctx ends or it stops. After Close it
// leaves at once, and Start returns false.
func (s *Consumers[C]) Start(ctx context.Context, c C, running Running) bool {
	started := &consuming{Running: running, gone: make(chan struct{})}
	s.mu.Lock()
	closed := s.closed
	if !closed {
		if s.open == nil {
			s.open = map[C]*consuming{}
		}
		s.open[c] = started
	}
	s.mu.Unlock()
	if closed {
		started.Stop()
		_ = started.Leave() // who closed waits for it no more
		return false
	}
	go func() {
		select {
		case <-ctx.Done():
		case <-started.Stopped:
		}
		started.failure = started.Leave()
		s.mu.Lock()
		delete(s.open, c)
		s.mu.Unlock()
		close(started.gone)
	}()
	return true
}

// All returns the consumers that have not left.
func (s *Consumers[C]) All() []C {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.open))
}

// Closed reports whether Close was called.
func (s *Consumers[C]) Closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Close stops all consumers, waits until they have left, and returns why any of them
// could not.
func (s *Consumers[C]) Close() error {
	s.mu.Lock()
	s.closed = true
	open := slices.Collect(maps.Values(s.open))
	s.mu.Unlock()
	for _, c := range open {
		c.Stop()
	}
	var failure error
	for _, c := range open {
		<-c.gone
		failure = errors.Join(failure, c.failure)
	}
	return failure
}
