package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hapax-go/hapax/internal/fault"
)

// settings are the flags of a run.
type settings struct {
	broker    string
	events    int
	seed      uint64
	consumers int
	folder    string
	// sql is the DSN of a database beside the Hapax lane's broker; "": none.
	sql string
	// patience bounds the wait for everything to drain.
	patience time.Duration
}

// workload is what both lanes are sent: one order in twenty is sent twice by a
// producer that got no answer.
func (s settings) workload() fault.Workload {
	return fault.Workload{Seed: s.seed, Events: s.events, Pad: 200, Duplicates: 0.05}
}

// plan is what both lanes suffer: a kill at every eighth of the work (every third
// where kills are to be few), and a consumer that joins in the middle of it.
func (s settings) plan(fewKills bool) fault.Plan {
	events, kills := int64(s.events), int64(8)
	if fewKills {
		kills = 3
	}
	return fault.Plan{
		Seed: s.seed, Effects: events, Max: s.consumers + 1,
		Strikes: []fault.Strike{
			{Action: fault.ActionKill, EveryEffects: max(1, events/kills), Jitter: 0.3},
			{Action: fault.ActionJoin, EveryEffects: max(1, events*2/5), Jitter: 0.1},
		},
	}
}

// day is how long the producer takes; the spike is its middle half.
func (s settings) day() time.Duration {
	return min(max(time.Duration(s.events)*2500*time.Microsecond, 4*time.Second), 20*time.Second)
}

// due is the fraction of all sends that the producer has made at a time of day:
// a tenth before the spike, eight tenths in it, a tenth after.
func due(at, day time.Duration) (fraction float64, phase string) {
	part := float64(at) / float64(day)
	switch {
	case part < 0.25:
		return part / 0.25 * 0.1, "a calm morning"
	case part < 0.75:
		return 0.1 + (part-0.25)/0.5*0.8, "traffic spike"
	case part < 1:
		return 0.9 + (part-0.75)/0.25*0.1, "calm again"
	default:
		return 1, "draining"
	}
}

// result is what a run ends with.
type result struct {
	settings
	seconds      float64
	plain, hapax fault.Report
}

// run plays the story on both lanes at once and judges them.
func run(ctx context.Context, s settings, show screen) (*result, error) {
	broker, err := brokerNamed(s.broker)
	if err != nil {
		return nil, err
	}
	if s.sql != "" {
		drop, err := placeSQL(ctx, s.folder, s.sql)
		if err != nil {
			return nil, err
		}
		defer func() { _ = drop() }() // a run that got this far is judged by its counts
		if broker, err = broker.withSQL(s.folder); err != nil {
			return nil, err
		}
	}
	started := time.Now()
	show.begin(s, broker)
	defer show.end()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var lanes [2]*lane
	for i, name := range []string{lanePlain, laneHapax} {
		if lanes[i], err = openLane(ctx, name, s, broker, show.log(name)); err != nil {
			return nil, err
		}
		defer lanes[i].close() //nolint:errcheck // a run that got this far is judged by its counts
	}
	watching := make(chan struct{})
	go func() { defer close(watching); watch(ctx, lanes, show) }()
	defer func() { cancel(); <-watching; look(context.WithoutCancel(ctx), lanes, show) }()

	striking, stop := context.WithCancel(ctx)
	defer stop()
	var strikes sync.WaitGroup
	var struck [2]error
	for i, lane := range lanes {
		strikes.Go(func() { struck[i] = lane.strike(striking, show.log(lane.name)) })
	}
	if err := produce(ctx, s, lanes, show); err != nil {
		return nil, err
	}
	var reports [2]fault.Report
	var errs [2]error
	var judging sync.WaitGroup
	for i, lane := range lanes {
		judging.Go(func() { reports[i], errs[i] = lane.judge(ctx) })
	}
	judging.Wait()
	stop()
	strikes.Wait()
	if err := errors.Join(errs[0], errs[1], struck[0], struck[1]); err != nil {
		return nil, err
	}
	return &result{settings: s, seconds: time.Since(started).Seconds(), plain: reports[0], hapax: reports[1]}, nil
}

// produce sends the same stream to both lanes, at the pace of the day.
func produce(ctx context.Context, s settings, lanes [2]*lane, show screen) error {
	sends := slices.Collect(s.workload().Sends())
	begin, day := time.Now(), s.day()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for sent := 0; ; {
		fraction, phase := due(time.Since(begin), day)
		next := int(fraction * float64(len(sends)))
		if next > sent {
			for _, lane := range lanes {
				if err := lane.publish(sends[sent:next]); err != nil {
					return fmt.Errorf("lane %s: %w", lane.name, err)
				}
			}
			sent = next
		}
		show.phase(phase, sent, len(sends))
		if sent == len(sends) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// watch shows the counts until ctx ends.
func watch(ctx context.Context, lanes [2]*lane, show screen) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		look(ctx, lanes, show)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look shows the counts once. One that cannot be had now is shown the next time.
func look(ctx context.Context, lanes [2]*lane, show screen) {
	for _, lane := range lanes {
		if glance, err := lane.glance(ctx); err == nil {
			show.glance(lane.name, glance)
		}
	}
}

// screen is where a run is shown.
type screen interface {
	begin(s settings, b broker)
	phase(name string, sent, of int)
	glance(lane string, g glance)
	// log takes what happens to a lane's consumers.
	log(lane string) *slog.Logger
	end()
}
