package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// Run measures what the options select. Groups of broker and case come one after
// the other; within a group the rounds of all variants are interleaved.
func Run(ctx context.Context, options Options) (*Report, error) {
	if err := options.validate(); err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "hapax-bench-")
	if err != nil {
		return nil, fmt.Errorf("create folder for the benchmark's files: %w", err)
	}
	defer os.RemoveAll(folder)
	ballast := make([]byte, ballastSize)
	defer runtime.KeepAlive(ballast)

	report := &Report{Machine: thisMachine()}
	for _, broker := range Brokers() {
		if !wants(options.Brokers, broker.Name) {
			continue
		}
		for _, name := range cases {
			if !wants(options.Cases, name) {
				continue
			}
			group := &group{options: options, broker: broker, name: name, folder: folder}
			rows, err := group.run(ctx)
			if err != nil {
				return nil, fmt.Errorf("measure %s, %s: %w", broker.Name, name, err)
			}
			report.Rows = append(report.Rows, rows...)
		}
		report.notes = append(report.notes, broker.Notes...)
	}
	if len(report.Rows) == 0 {
		return nil, fmt.Errorf("nothing to measure: the selected brokers have no variant %v", options.Variants)
	}
	return report, nil
}

// ballastSize: never touched, so it takes no memory but makes the collector run
// every so many bytes instead of every 4 MB.
const ballastSize = 128 << 20

// group is the variants of one broker and case, which are compared.
type group struct {
	options Options
	broker  Broker
	name    string
	folder  string

	lanes []*lane
	turn  int // rounds so far; makes event IDs and files differ
}

// lane is an open variant and what it reached.
type lane struct {
	Lane
	variant       Variant
	rates, allocs []float64
	sustained     []float64 // rates with the time to fill the broker included
	p50s, p99s    []float64 // milliseconds
}

func (g *group) run(ctx context.Context) (rows []Row, err error) {
	defer func() {
		for _, lane := range g.lanes {
			err = errors.Join(err, lane.Close())
		}
	}()
	if err := g.open(ctx); err != nil {
		return nil, err
	}
	for round := range 1 + g.options.Rounds {
		for _, i := range order(g.options.Seed, len(g.lanes), round) {
			if err := g.peak(ctx, g.lanes[i], round); err != nil {
				return nil, err
			}
		}
	}
	paced := (g.options.Rounds + 1) / 2
	for round := range paced {
		for _, i := range order(g.options.Seed, len(g.lanes), round) {
			if err := g.paced(ctx, g.lanes[i], round+1, paced); err != nil {
				return nil, err
			}
		}
	}
	for _, lane := range g.lanes {
		rows = append(rows, g.row(lane))
	}
	return rows, nil
}

func (g *group) open(ctx context.Context) error {
	payload := make([]byte, g.options.Payload)
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], g.options.Seed)
	_, _ = rand.NewChaCha8(seed).Read(payload) // never fails
	for _, variant := range g.broker.Variants {
		if !wants(g.options.Variants, variant.Name) {
			continue
		}
		env := Env{
			Produce: g.name == ConsumeProduce, Payload: payload, InFlight: g.options.InFlight,
			Folder: filepath.Join(g.folder, g.broker.Name+"-"+g.name+"-"+variant.Name),
		}
		opened, err := variant.Open(ctx, env)
		if err != nil {
			return fmt.Errorf("open %s: %w", variant.Name, err)
		}
		g.lanes = append(g.lanes, &lane{Lane: opened, variant: variant})
	}
	return nil
}

func (g *group) messages(v Variant) int {
	if g.options.Messages > 0 {
		return g.options.Messages
	}
	return g.broker.Messages / max(1, v.Fewer)
}

// peak runs a round as fast as it goes; round 0 only warms up.
func (g *group) peak(ctx context.Context, lane *lane, round int) error {
	n := g.messages(lane.variant)
	load := Load{Messages: n, Copies: n * g.options.Duplicates / 100}
	meter, err := g.round(ctx, lane, load)
	if err != nil || round == 0 {
		return err
	}
	deliveries := float64(load.Deliveries())
	lane.rates = append(lane.rates, deliveries/meter.Elapsed.Seconds())
	lane.sustained = append(lane.sustained, deliveries/(meter.Prepared+meter.Elapsed).Seconds())
	lane.allocs = append(lane.allocs, float64(meter.Mallocs)/deliveries)
	g.progress(lane, "round %d of %d: %.0f messages/s", round, g.options.Rounds, lane.rates[len(lane.rates)-1])
	return nil
}

// paced runs a round at half of the peak.
func (g *group) paced(ctx context.Context, lane *lane, round, rounds int) error {
	rate := median(lane.sustained) / 2
	load := Load{Messages: max(1, g.messages(lane.variant)/2)}
	load.pace = newPace(rate, load.Messages)
	if _, err := g.round(ctx, lane, load); err != nil {
		return err
	}
	p50, p99 := load.pace.quantiles()
	lane.p50s = append(lane.p50s, p50.Seconds()*1000)
	lane.p99s = append(lane.p99s, p99.Seconds()*1000)
	g.progress(lane, "paced round %d of %d at %.0f messages/s: p99 %s", round, rounds, rate, p99.Round(time.Microsecond))
	return nil
}

// round runs one round and checks its counts.
func (g *group) round(ctx context.Context, lane *lane, load Load) (*Meter, error) {
	load.Round = g.turn
	g.turn++
	meter := NewMeter()
	counts, err := lane.Round(ctx, load, meter)
	if err == nil {
		err = g.check(lane.variant, load, counts)
	}
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", lane.variant.Name, err)
	}
	return meter, nil
}

// check compares what happened with what should have. A handler may run for a
// copy whose effects are then discarded; outputs and effects must be exact.
func (g *group) check(variant Variant, load Load, counts Counts) error {
	want := Counts{Handled: load.Deliveries()}
	if variant.Once {
		want.Handled = load.Messages
		if counts.Handled <= load.Deliveries() {
			counts.Handled = min(counts.Handled, want.Handled)
		}
	}
	if g.name == ConsumeProduce {
		want.Outputs = want.Handled
	}
	if variant.Effects {
		want.Effects = want.Handled
	}
	if counts != want {
		return fmt.Errorf("counted %+v after %d messages and %d copies, expected %+v", counts, load.Messages, load.Copies, want)
	}
	return nil
}

func (g *group) progress(lane *lane, format string, arguments ...any) {
	if g.options.Progress != nil {
		fmt.Fprintf(g.options.Progress, "%s %s %s: %s\n", g.broker.Name, g.name, lane.variant.Name, fmt.Sprintf(format, arguments...))
	}
}
