package fault

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Action is a kind of fault.
type Action string

// The actions of a plan. Any other action is the name of one of the Runner's
// hooks.
const (
	ActionKill  Action = "kill"
	ActionPause Action = "pause"
	ActionJoin  Action = "join"
	ActionLeave Action = "leave"
)

// Strike is a fault that repeats. At least one of Every and EveryEffects is set.
type Strike struct {
	Action Action `json:"action"`
	// Every is the mean time between two strikes; zero: not by time.
	Every time.Duration `json:"every,omitempty"`
	// EveryEffects is the mean number of effects between two strikes; zero: not
	// by progress. Unlike times, progress hits the middle of the work on slow
	// and fast machines alike.
	EveryEffects int64 `json:"every_effects,omitempty"`
	// Jitter spreads each interval by up to this fraction, from 0 to 1, in
	// either direction.
	Jitter float64 `json:"jitter,omitempty"`
	// For is how long a pause lasts, and what a hook is told.
	For time.Duration `json:"for,omitempty"`
}

// Plan says which faults a run has. Equal plans make equal steps, on every
// machine.
type Plan struct {
	// Seed is what everything random is drawn from.
	Seed uint64 `json:"seed"`
	// Duration ends the strikes that go by time.
	Duration time.Duration `json:"duration,omitempty"`
	// Effects ends the strikes that go by progress: none at or after it.
	Effects int64 `json:"effects,omitempty"`
	// Min and Max bound the number of children: a leave at or below Min and a
	// join at or above Max are skipped. A zero Max is no bound.
	Min int `json:"min,omitempty"`
	Max int `json:"max,omitempty"`
	// Strikes are the faults; each draws from a stream of its own, so that adding
	// one does not move the others.
	Strikes []Strike `json:"strikes"`
}

// Step is one fault of a plan.
type Step struct {
	// At is when it happens, from the start of the run; used when AtEffect is 0.
	At time.Duration `json:"at,omitempty"`
	// AtEffect is the number of effects at which it happens.
	AtEffect int64 `json:"at_effect,omitempty"`
	// Action is what happens.
	Action Action `json:"action"`
	// Target stands for a child: number Target modulo their count.
	Target uint64 `json:"target"`
	// For is the strike's For.
	For time.Duration `json:"for,omitempty"`
}

// Steps draws the plan: first the steps by progress, then those by time, each
// in order.
func (p Plan) Steps() []Step {
	var steps []Step
	for i, strike := range p.Strikes {
		for at, target := range p.draw(i, int64(strike.Every), int64(p.Duration)) {
			steps = append(steps, Step{At: time.Duration(at), Action: strike.Action, Target: target, For: strike.For})
		}
		for at, target := range p.draw(i, strike.EveryEffects, p.Effects) {
			steps = append(steps, Step{AtEffect: at, Action: strike.Action, Target: target, For: strike.For})
		}
	}
	slices.SortStableFunc(steps, Step.compare)
	return steps
}

func (s Step) compare(other Step) int {
	return cmp.Or(cmp.Compare(s.At, other.At), cmp.Compare(s.AtEffect, other.AtEffect))
}

// draw yields the strikes' places before end, each with its target.
func (p Plan) draw(index int, every, end int64) func(yield func(int64, uint64) bool) {
	return func(yield func(int64, uint64) bool) {
		if every <= 0 {
			return
		}
		strike := p.Strikes[index]
		name := fnv.New64a()
		_, _ = fmt.Fprintf(name, "%s/%d", strike.Action, p.nth(index))
		random := rand.New(rand.NewPCG(p.Seed, name.Sum64()))
		for at := int64(0); ; {
			// The conversion keeps the compiler from fusing the operations, which
			// it does on some machines and which rounds differently.
			spread := float64(strike.Jitter * (2*random.Float64() - 1))
			at += max(1, int64(float64(every)*(1+spread)))
			target := random.Uint64()
			if at >= end || !yield(at, target) {
				return
			}
		}
	}
}

// nth tells two strikes of the same action apart.
func (p Plan) nth(index int) (n int) {
	for _, earlier := range p.Strikes[:index] {
		if earlier.Action == p.Strikes[index].Action {
			n++
		}
	}
	return n
}

// Validate names what makes the plan impossible or empty.
func (p Plan) Validate() error {
	for i, strike := range p.Strikes {
		switch {
		case strike.Action == "":
			return fmt.Errorf("read plan: strike %d has no action", i)
		case strike.Every <= 0 && strike.EveryEffects <= 0:
			return fmt.Errorf("read plan: strike %s has neither a time nor a number of effects between strikes, set one", strike.Action)
		case strike.Jitter < 0 || strike.Jitter > 1:
			return fmt.Errorf("read plan: strike %s has jitter %v, expected 0 to 1", strike.Action, strike.Jitter)
		case strike.Every > 0 && p.Duration <= 0:
			return fmt.Errorf("read plan: strike %s goes by time, but the plan has no duration", strike.Action)
		case strike.EveryEffects > 0 && p.Effects <= 0:
			return fmt.Errorf("read plan: strike %s goes by effects, but the plan has no number of effects", strike.Action)
		case strike.Action == ActionPause && strike.For <= 0:
			return fmt.Errorf("read plan: strike pause does not say how long a pause lasts")
		}
	}
	return nil
}

// String describes the plan in one line, seed first.
func (p Plan) String() string {
	parts := []string{fmt.Sprintf("seed %d", p.Seed)}
	for _, strike := range p.Strikes {
		part := string(strike.Action)
		if strike.Every > 0 {
			part += fmt.Sprintf(" every %s", strike.Every)
		}
		if strike.EveryEffects > 0 {
			part += fmt.Sprintf(" every %d effects", strike.EveryEffects)
		}
		if strike.Jitter > 0 {
			part += fmt.Sprintf(" ±%.0f%%", 100*strike.Jitter)
		}
		if strike.For > 0 {
			part += fmt.Sprintf(" for %s", strike.For)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}
