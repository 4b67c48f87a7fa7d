package fault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Counts is what happened to the children of a fleet.
type Counts struct {
	// Started counts every child, replacements included.
	Started int `json:"started"`
	// Kills counts deaths by SIGKILL before Shutdown or Close: the harness's own
	// and those at failpoints.
	Kills int `json:"kills"`
	// Pauses counts SIGSTOPs.
	Pauses int `json:"pauses"`
	// Joins counts children added by Join; Leaves those that left by Leave.
	Joins  int `json:"joins"`
	Leaves int `json:"leaves"`
}

// Fleet keeps a number of children running: one that dies by SIGKILL is
// replaced at once, one that ends in any other way without being told is a
// failure of the run. Its methods are safe for concurrent use.
type Fleet struct {
	launch func(number int) Command
	log    *slog.Logger

	watchers sync.WaitGroup
	failed   chan struct{} // closed at the first failure

	mu       sync.Mutex
	members  map[int]*member
	counts   Counts
	failures []error
	closed   bool
}

type member struct {
	*Child
	number int
	going  bool          // was told to end: not to be chosen again
	leave  bool          // ... by Leave, so it is not replaced
	over   chan struct{} // closed when its end was dealt with
}

// NewFleet makes a fleet without children. launch describes the child with the
// given number; numbers start at 1 and are never used twice, so that a
// replacement can have a name and an environment of its own. log may be nil.
func NewFleet(launch func(number int) Command, log *slog.Logger) *Fleet {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Fleet{launch: launch, log: log, members: map[int]*member{}, failed: make(chan struct{})}
}

// Start adds children and waits until all of them are ready, or were killed before: a
// child may die at a failpoint as soon as it works, and is replaced.
func (f *Fleet) Start(ctx context.Context, size int) error {
	started := make([]*member, 0, size)
	for range size {
		member, err := f.add(0, func(*Counts) {})
		if err != nil {
			return err
		}
		started = append(started, member)
	}
	for _, member := range started {
		if err := f.ready(ctx, member); err != nil {
			return err
		}
	}
	return nil
}

// ready waits until a child is, or was struck before: then it was told to leave, or
// killed and replaced, and all is as it should be.
func (f *Fleet) ready(ctx context.Context, m *member) error {
	err := m.Ready(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if m.going || m.Exit().Signal == syscall.SIGKILL {
		return nil
	}
	return err
}

// Join adds one child and waits until it is ready. With ceiling or more children
// nobody joins: ErrNoTarget. A ceiling of 0 is none.
func (f *Fleet) Join(ctx context.Context, ceiling int) error {
	member, err := f.add(ceiling, func(c *Counts) { c.Joins++ })
	if err != nil {
		return err
	}
	f.log.Info("child joins", "child", member.Name())
	return f.ready(ctx, member)
}

func (f *Fleet) add(ceiling int, count func(*Counts)) (*member, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errors.New("start child: fleet is closed")
	}
	if size := len(f.live()); ceiling > 0 && size >= ceiling {
		return nil, fmt.Errorf("%w: %d children are running, fewer than %d are needed", ErrNoTarget, size, ceiling)
	}
	number := f.counts.Started + 1
	child, err := Start(f.launch(number))
	if err != nil {
		return nil, err
	}
	f.counts.Started = number
	count(&f.counts)
	added := &member{Child: child, number: number, over: make(chan struct{})}
	f.members[number] = added
	f.watchers.Go(func() { f.watch(added) })
	return added, nil
}

// watch deals with a child's end. The replacement is started here, not by
// whoever killed the child: a child may also die at a failpoint.
func (f *Fleet) watch(m *member) {
	defer close(m.over)
	<-m.Done()
	exit := m.Exit()
	f.mu.Lock()
	delete(f.members, m.number)
	closed, leave := f.closed, m.leave
	killed := exit.Signal == syscall.SIGKILL
	if killed && !closed {
		f.counts.Kills++
	}
	f.mu.Unlock()
	switch {
	case closed || leave:
	case killed:
		replacement, err := f.add(0, func(*Counts) {})
		if err != nil {
			f.fail(fmt.Errorf("replace child %s: %w", m.Name(), err))
			return
		}
		f.log.Info("child killed and replaced", "child", m.Name(), "replacement", replacement.Name())
	default:
		f.fail(m.Failure("ended without being told to"))
	}
}

func (f *Fleet) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed { // Close came while a replacement was being started
		return
	}
	if len(f.failures) == 0 {
		close(f.failed)
	}
	f.failures = append(f.failures, err)
}

// Err returns what went wrong with the children so far: ends that nobody asked
// for, and replacements that could not be started.
func (f *Fleet) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.failures...)
}

// Failed is closed when Err first has something to report.
func (f *Fleet) Failed() <-chan struct{} { return f.failed }

// Counts returns what happened so far.
func (f *Fleet) Counts() Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts
}

// Size returns the number of children that were not told to end.
func (f *Fleet) Size() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.live())
}

// live returns the children that were not told to end, by number. The caller
// holds the lock.
func (f *Fleet) live() []*member {
	members := slices.SortedFunc(maps.Values(f.members), func(a, b *member) int { return cmp.Compare(a.number, b.number) })
	return slices.DeleteFunc(members, func(m *member) bool { return m.going })
}

// Shutdown asks every child to stop, waits for them, and closes the fleet. A
// child that does not stop within the grace, or not with status 0, is an error.
func (f *Fleet) Shutdown(grace time.Duration) error {
	members := f.close()
	errs := make([]error, len(members))
	var all sync.WaitGroup
	for i, m := range members {
		all.Go(func() { errs[i] = terminate(m.Child, grace) })
	}
	all.Wait()
	return errors.Join(append(errs, f.Close())...)
}

func (f *Fleet) close() []*member {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return slices.Collect(maps.Values(f.members))
}

// terminate is strict about the end, but for one that a failpoint brought, and
// for SIGTERM reaching a child that had not come so far as to handle it.
func terminate(child *Child, grace time.Duration) error {
	exit, err := child.Terminate(grace)
	switch {
	case err != nil:
		return err
	case exit.Code == 0, exit.Signal == syscall.SIGKILL, exit.Signal == syscall.SIGTERM && !child.wasReady():
		return nil
	default:
		return child.Failure("did not stop cleanly at SIGTERM")
	}
}

// Close kills every child and waits until all of them are gone.
func (f *Fleet) Close() error {
	members := f.close()
	var errs []error
	for _, member := range members {
		errs = append(errs, member.Close())
	}
	f.watchers.Wait()
	return errors.Join(errs...)
}
