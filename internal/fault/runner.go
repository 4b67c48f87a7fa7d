package fault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Runner makes a plan's faults happen.
type Runner struct {
	Plan Plan
	// Fleet is struck. It may be nil when the plan has hooks only.
	Fleet *Fleet
	// Hooks are the faults that are not about children, by action: restart the
	// broker, cut connections. A hook that still runs when its next step comes
	// is not started twice: that step is skipped.
	Hooks map[Action]func(ctx context.Context, step Step) error
	// Progress counts the effects so far. Required for strikes by progress.
	Progress func(ctx context.Context) (int64, error)
	// Poll is the time between two looks at Progress. Default 10ms.
	Poll time.Duration
	// Grace is how long a leaving child may take. Default 30s.
	Grace time.Duration
	// Log tells what really happens. Nil: nothing is told.
	Log *slog.Logger
}

// Outcome is what a runner did.
type Outcome struct {
	// Done are the steps that happened, Skipped those that did not: the run was
	// over, the fleet's size did not allow it or a hook was busy.
	Done    []Step `json:"done"`
	Skipped []Step `json:"skipped,omitempty"`
}

// Run makes the plan's faults happen and returns when all of them are over:
// pauses ended, leavers gone. The end of the context ends the faults early,
// which is no error: the work may be done before the plan is. An error means
// that the run is not fit to be judged.
func (r *Runner) Run(ctx context.Context) (Outcome, error) {
	if err := r.validate(); err != nil {
		return Outcome{}, err
	}
	run := &running{Runner: *r, busy: map[Action]bool{}}
	if run.Log == nil {
		run.Log = slog.New(slog.DiscardHandler)
	}
	if run.Poll <= 0 {
		run.Poll = 10 * time.Millisecond
	}
	if run.Grace <= 0 {
		run.Grace = 30 * time.Second
	}
	run.Log.Info("faults start", "plan", r.Plan.String())
	// A failure of one strike ends the others.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	run.cancel = cancel
	run.steps(ctx)
	run.strikes.Wait()
	if r.Fleet != nil {
		run.fail(r.Fleet.Err())
	}
	slices.SortStableFunc(run.outcome.Done, Step.compare)
	run.Log.Info("faults end", "done", len(run.outcome.Done), "skipped", len(run.outcome.Skipped))
	return run.outcome, errors.Join(run.errs...)
}

func (r *Runner) validate() error {
	if err := r.Plan.Validate(); err != nil {
		return err
	}
	for _, strike := range r.Plan.Strikes {
		switch strike.Action {
		case ActionKill, ActionPause, ActionJoin, ActionLeave:
			if r.Fleet == nil {
				return fmt.Errorf("run plan: strike %s needs a fleet", strike.Action)
			}
		default:
			if r.Hooks[strike.Action] == nil {
				return fmt.Errorf("run plan: no hook for strike %s", strike.Action)
			}
		}
		if strike.EveryEffects > 0 && r.Progress == nil {
			return fmt.Errorf("run plan: strike %s goes by effects, but nothing counts them: set Progress", strike.Action)
		}
	}
	return nil
}
