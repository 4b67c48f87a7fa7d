package fault

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrNoTarget: no child could be struck, or joined, without leaving the bounds
// of the fleet's size.
var ErrNoTarget = errors.New("the fleet's size does not allow it")

// take chooses the child that a number drawn from the seed stands for, and
// notes what is to become of it before anyone else can choose it. There must be
// more children than floor.
func (f *Fleet) take(target uint64, floor int, note func(*member)) (*member, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	live := f.live()
	if len(live) <= max(floor, 0) {
		return nil, fmt.Errorf("%w: %d children are running, more than %d are needed", ErrNoTarget, len(live), max(floor, 0))
	}
	chosen := live[target%uint64(len(live))]
	note(chosen)
	return chosen, nil
}

// Kill kills the child that target stands for, and returns once its
// replacement was started.
func (f *Fleet) Kill(ctx context.Context, target uint64) error {
	chosen, err := f.take(target, 0, func(m *member) { m.going = true })
	if err != nil {
		return fmt.Errorf("kill a child: %w", err)
	}
	if err := chosen.Kill(); err != nil {
		return err
	}
	select {
	case <-chosen.over:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of child %s: %w", chosen.Name(), ctx.Err())
	}
}

// Pause freezes the child that target stands for, and thaws it after a time or
// when the context ends.
func (f *Fleet) Pause(ctx context.Context, target uint64, pause time.Duration) error {
	chosen, err := f.take(target, 0, func(*member) { f.counts.Pauses++ })
	if err != nil {
		return fmt.Errorf("pause a child: %w", err)
	}
	if err := chosen.Stop(); err != nil {
		return err
	}
	f.log.Info("child frozen", "child", chosen.Name(), "for", pause)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-chosen.Done():
	}
	f.log.Info("child thawed", "child", chosen.Name())
	return chosen.Continue()
}

// Supersede freezes the child that target stands for and lets another join, its heir. The
// first is thawed when done has returned, which waits until the heir has done its part,
// however long that takes on this machine; but not before a time is over.
func (f *Fleet) Supersede(ctx context.Context, target uint64, least time.Duration, done func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	frozen, thaw := context.WithCancel(ctx)
	heir := make(chan error, 1)
	go func() {
		defer thaw()
		over := time.After(least)
		err := f.Join(ctx, 0)
		if err == nil {
			err = done(ctx)
		}
		select {
		case <-over:
		case <-ctx.Done():
		}
		heir <- err
	}()
	if err := f.Pause(frozen, target, forever); err != nil {
		cancel()
		<-heir
		return err
	}
	return <-heir
}

const forever = 24 * time.Hour // until the context ends

// Leave asks the child that target stands for to stop, and waits until it has.
// It is not replaced. One that does not stop within the grace, or not with
// status 0, is an error. With floor or fewer children nobody leaves:
// ErrNoTarget.
func (f *Fleet) Leave(target uint64, floor int, grace time.Duration) error {
	chosen, err := f.take(target, floor, func(m *member) {
		m.going, m.leave = true, true
		f.counts.Leaves++
	})
	if err != nil {
		return fmt.Errorf("let a child leave: %w", err)
	}
	f.log.Info("child leaves", "child", chosen.Name())
	err = terminate(chosen.Child, grace)
	<-chosen.over
	return err
}
