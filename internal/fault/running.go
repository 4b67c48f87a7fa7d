package fault

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// running is one Run.
type running struct {
	Runner
	cancel  context.CancelFunc
	strikes sync.WaitGroup

	mu      sync.Mutex
	busy    map[Action]bool // hooks under way
	outcome Outcome
	errs    []error
}

func (r *running) fail(err error) {
	if err == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
	r.cancel()
}

// skip notes steps that do not happen.
func (r *running) skip(steps ...Step) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcome.Skipped = append(r.outcome.Skipped, steps...)
}

// steps starts every step at its time or progress.
func (r *running) steps(ctx context.Context) {
	byTime := r.Plan.Steps()
	byEffect := byTime[:0:0]
	for len(byTime) > 0 && byTime[0].AtEffect > 0 { // they come first
		byEffect, byTime = append(byEffect, byTime[0]), byTime[1:]
	}
	defer func() { r.skip(append(byEffect, byTime...)...) }()
	var failed <-chan struct{}
	if r.Fleet != nil {
		failed = r.Fleet.Failed()
	}
	start := time.Now()
	for len(byTime)+len(byEffect) > 0 {
		var timer, poll <-chan time.Time
		if len(byTime) > 0 {
			timer = time.After(time.Until(start.Add(byTime[0].At)))
		}
		if len(byEffect) > 0 {
			poll = time.After(r.Poll)
		}
		select {
		case <-ctx.Done():
			return
		case <-failed:
			return
		case <-timer:
			r.strike(ctx, byTime[0])
			byTime = byTime[1:]
		case <-poll:
			effects, err := r.Progress(ctx)
			if err != nil {
				if ctx.Err() == nil {
					r.fail(fmt.Errorf("count effects: %w", err))
				}
				return
			}
			for len(byEffect) > 0 && byEffect[0].AtEffect <= effects {
				r.strike(ctx, byEffect[0])
				byEffect = byEffect[1:]
			}
		}
	}
}

// strike makes one step happen, beside the others: a long pause or restart does
// not hold the next fault up.
func (r *running) strike(ctx context.Context, step Step) {
	r.Log.Info("fault", "action", step.Action, "at", step.At, "at_effect", step.AtEffect, "for", step.For)
	r.strikes.Go(func() {
		err := r.act(ctx, step)
		switch {
		case errors.Is(err, ErrNoTarget), errors.Is(err, errBusy):
			r.Log.Info("fault skipped", "action", step.Action, "reason", err)
			r.skip(step)
			return
		case err != nil && !(ctx.Err() != nil && errors.Is(err, ctx.Err())):
			r.fail(err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.outcome.Done = append(r.outcome.Done, step)
	})
}

func (r *running) act(ctx context.Context, step Step) error {
	switch step.Action {
	case ActionKill:
		return r.Fleet.Kill(ctx, step.Target)
	case ActionPause:
		return r.Fleet.Pause(ctx, step.Target, step.For)
	case ActionJoin:
		return r.Fleet.Join(ctx, r.Plan.Max)
	case ActionLeave:
		return r.Fleet.Leave(step.Target, r.Plan.Min, r.Grace)
	default:
		return r.hook(ctx, step)
	}
}

// errBusy: the hook still runs.
var errBusy = errors.New("the one before it is not over")

func (r *running) hook(ctx context.Context, step Step) error {
	if !r.enter(step.Action) {
		return errBusy
	}
	defer r.exit(step.Action)
	if err := r.Hooks[step.Action](ctx, step); err != nil {
		return fmt.Errorf("run hook %s: %w", step.Action, err)
	}
	return nil
}

func (r *running) enter(action Action) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy[action] {
		return false
	}
	r.busy[action] = true
	return true
}

func (r *running) exit(action Action) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy[action] = false
}
