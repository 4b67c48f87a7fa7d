package fault_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/fault"
)

// clean is a run in which everything is right: e0 to e3 confirmed, e4 open and
// e5 failed; e1 delivered again by a fault, e2 sent twice.
func clean() fault.Observation {
	var o fault.Observation
	o.Left = map[string]int64{}
	o.ExpectOutputs = true
	for i, outcome := range []fault.SendOutcome{fault.SendOK, fault.SendOK, fault.SendOK, fault.SendOK, fault.SendUnknown, fault.SendFailed} {
		event := effect(i)
		o.Expected = append(o.Expected, fault.Expected{ID: event.ID, Key: event.Key, Seq: event.Seq, Outcome: outcome})
		if outcome == fault.SendOK {
			o.Effects = append(o.Effects, event)
			o.Outputs = append(o.Outputs, event)
			o.Deliveries = append(o.Deliveries, fault.Delivery{ID: event.ID})
		}
	}
	o.Earlier = o.Effects[:2]
	o.Deliveries = append(o.Deliveries, fault.Delivery{ID: "e1"}, fault.Delivery{ID: "e2", Copy: 1})
	o.Counts.Kills = 2
	return o
}

// effect is the effect of event i; even and odd ones have a key each.
func effect(i int) fault.Effect {
	return fault.Effect{ID: fmt.Sprintf("e%d", i), Key: fmt.Sprintf("k%d", i%2), Seq: int64(1 + i/2)}
}

func TestOraclePassesACleanRun(t *testing.T) {
	report := fault.Check(clean())
	require.NoError(t, report.Err())
	require.Equal(t, fault.Summary{Deliveries: 6, DuplicateDeliveries: 2, Kills: 2}, report.Summary())
	require.Equal(t, 6, report.Events)
	require.Equal(t, 1, report.Unknown)
	require.Equal(t, 1, report.Redeliveries, "a copy that the producer sent is no redelivery")
}

// Each mutant breaks one thing; the oracle must name exactly that.
func TestOracleFindsEachFault(t *testing.T) {
	type observation = fault.Observation
	for name, mutant := range map[string]struct {
		break_ func(*observation)
		want   string
	}{
		"effect lost": {func(o *observation) { o.Effects, o.Earlier = o.Effects[:3], nil },
			"1 events lost, lost: e3"},
		"output lost": {func(o *observation) { o.Outputs = o.Outputs[1:] },
			"1 events lost, lost: e0"},
		"no outputs at all": {func(o *observation) { o.Outputs = nil },
			"4 events lost, lost: e0 e1 e2 e3"},
		"open event with an effect and no output": {func(o *observation) { o.Effects = append(o.Effects, effect(4)) },
			"1 events lost, lost: e4"},
		"open event with an output and no effect": {func(o *observation) { o.Outputs = append(o.Outputs, effect(4)) },
			"1 events lost, lost: e4"},
		"effect twice": {func(o *observation) { o.Effects = append(o.Effects, effect(0)) },
			"1 duplicate effects, duplicate effects: e0"},
		"effect thrice": {func(o *observation) { o.Effects = append(o.Effects, effect(0), effect(0)) },
			"2 duplicate effects, duplicate effects: e0"},
		"open event twice": {func(o *observation) {
			o.Effects, o.Outputs = append(o.Effects, effect(4), effect(4)), append(o.Outputs, effect(4))
		},
			"1 duplicate effects, duplicate effects: e4"},
		"output twice": {func(o *observation) { o.Outputs = append(o.Outputs, effect(3)) },
			"1 duplicate outputs, duplicate outputs: e3"},
		"output again under another ID": {func(o *observation) {
			o.OutputsMayRepeat = true
			o.Outputs[3].Identity = "o3"
			again := o.Outputs[3]
			again.Identity = "o3 drawn anew"
			o.Outputs = append(o.Outputs, again)
		}, "1 outputs published again under another event ID, renamed: e3"},
		"failed send took effect": {func(o *observation) { o.Effects = append(o.Effects, effect(5)) },
			"1 events took effect although their send failed, undead: e5"},
		"failed send has an output": {func(o *observation) { o.Outputs = append(o.Outputs, effect(5)) },
			"1 events took effect although their send failed, undead: e5"},
		"out of order": {func(o *observation) { o.Effects[0], o.Effects[2] = o.Effects[2], o.Effects[0] },
			"1 events out of order, out of order: e0"},
		"output out of order": {func(o *observation) { o.Outputs[1], o.Outputs[3] = o.Outputs[3], o.Outputs[1] },
			"1 events out of order, output out of order: e1"},
		"unexpected": {func(o *observation) { o.Effects = append(o.Effects, fault.Effect{ID: "stranger"}) },
			"1 effects or outputs of events that nobody sent, unexpected: stranger"},
		"unexpected output": {func(o *observation) { o.Outputs = append(o.Outputs, fault.Effect{ID: "stranger"}) },
			"1 effects or outputs of events that nobody sent, unexpected: stranger"},
		"key altered": {func(o *observation) { o.Effects[3].Key = "other" },
			"1 effects or outputs with another key or place than their event, altered: e3"},
		"place altered": {func(o *observation) { o.Outputs[3].Seq = 7 },
			"1 effects or outputs with another key or place than their event, altered: e3"},
		"vanished": {func(o *observation) { o.Earlier = []fault.Effect{effect(4)} },
			"1 effects seen during the run were gone after it, vanished: e4"},
		"not drained": {func(o *observation) { o.Left = map[string]int64{"pending": 3} },
			"not drained at the deadline: map[pending:3]"},
		"nobody looked": {func(o *observation) { o.Left = nil },
			"nobody looked whether everything drained"},
		"no redelivery": {func(o *observation) { o.Deliveries = o.Deliveries[:4] },
			"no redeliveries: the faults did not strike, the run proves nothing"},
		"only the producer's copies": {func(o *observation) { o.Deliveries[4] = fault.Delivery{ID: "e1", Copy: 1} },
			"no redeliveries: the faults did not strike, the run proves nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			o := clean()
			mutant.break_(&o)
			require.EqualError(t, fault.Check(o).Err(), mutant.want)
		})
	}
	require.ErrorContains(t, fault.Check(fault.Observation{}).Err(), "no events were sent")
}

func TestOracleAllows(t *testing.T) {
	for name, change := range map[string]func(*fault.Observation){
		"an open event with one effect": func(o *fault.Observation) {
			o.Effects, o.Outputs = append(o.Effects, effect(4)), append(o.Outputs, effect(4))
		},
		"keys interleaved": func(o *fault.Observation) { o.Effects[0], o.Effects[1] = o.Effects[1], o.Effects[0] },
		"repeated outputs, if told so": func(o *fault.Observation) {
			o.OutputsMayRepeat = true
			o.Outputs[0].Identity = "o0"
			o.Outputs = append(o.Outputs, o.Outputs[0])
		},
		"disorder, if told so": func(o *fault.Observation) {
			o.Unordered = true
			o.Effects[0], o.Effects[2] = o.Effects[2], o.Effects[0]
		},
		"no redelivery, if told so":   func(o *fault.Observation) { o.MayNotRedeliver, o.Deliveries = true, nil },
		"no outputs, if none are due": func(o *fault.Observation) { o.ExpectOutputs, o.Outputs = false, nil },
	} {
		o := clean()
		change(&o)
		require.NoError(t, fault.Check(o).Err(), name)
	}
}

// A late duplicate is a duplicate, not disorder as well.
func TestOracleJudgesOrderByFirstEffects(t *testing.T) {
	o := clean()
	o.Effects = append(o.Effects, effect(0))
	report := fault.Check(o)
	require.Zero(t, report.OutOfOrder)
	require.Equal(t, 1, report.DuplicateEffects)
}

func TestReportNamesTheFirstTwenty(t *testing.T) {
	o := clean()
	for i := range 100 {
		o.Expected = append(o.Expected, fault.Expected{ID: fmt.Sprintf("gone-%d", i), Key: "k", Seq: int64(i), Outcome: fault.SendOK})
	}
	report := fault.Check(o)
	require.Equal(t, 100, report.Lost)
	require.Len(t, report.Problems["lost"], 20)
	require.Equal(t, "gone-19", report.Problems["lost"][19])
}

func TestSummaryKeys(t *testing.T) {
	data, err := json.Marshal(fault.Check(clean()).Summary())
	require.NoError(t, err)
	require.Equal(t, `{"deliveries":6,"duplicate_deliveries":2,"duplicate_outputs":0,"duplicate_effects":0,"lost":0,"kills":2}`, string(data))
}

func TestReportJSON(t *testing.T) {
	o := clean()
	o.Effects = append(o.Effects, effect(0))
	data, err := json.Marshal(fault.Check(o))
	require.NoError(t, err)
	var read map[string]any
	require.NoError(t, json.Unmarshal(data, &read))
	require.EqualValues(t, 1, read["duplicate_effects"])
	require.EqualValues(t, 2, read["kills"])
	require.Equal(t, map[string]any{"duplicate effects": []any{"e0"}}, read["problems"])
}

func TestVerdictNeedsAGuiltyControlRun(t *testing.T) {
	real := fault.Check(clean())
	duplicated := clean()
	duplicated.Effects = append(duplicated.Effects, effect(0))
	require.NoError(t, fault.Verdict(real, fault.Check(duplicated)))

	err := fault.Verdict(real, fault.Check(clean()))
	require.ErrorIs(t, err, fault.ErrProvedNothing)
	require.EqualError(t, err, "the faults proved nothing: without deduplication, 6 events delivered 6 times left no duplicate; kill more often or send more events")

	lossy := clean()
	lossy.Effects = lossy.Effects[:3]
	err = fault.Verdict(real, fault.Check(lossy))
	require.ErrorIs(t, err, fault.ErrProvedNothing, "a loss says nothing about deduplication")
	require.ErrorContains(t, err, "its other problems: 1 events lost")

	require.ErrorContains(t, fault.Verdict(fault.Check(duplicated), fault.Check(duplicated)), "1 duplicate effects")

	outputs := clean()
	outputs.Outputs = append(outputs.Outputs, effect(0))
	require.NoError(t, fault.Control(fault.Check(outputs)))
	outputs.OutputsMayRepeat = true
	require.ErrorIs(t, fault.Control(fault.Check(outputs)), fault.ErrProvedNothing)
}

func TestTable(t *testing.T) {
	var out strings.Builder
	plain := clean()
	plain.Effects = append(plain.Effects, effect(0))
	require.NoError(t, fault.WriteTable(&out, fault.Column{Name: "plain", Report: fault.Check(plain)}, fault.Column{Name: "Hapax", Report: fault.Check(clean())}))
	require.Equal(t, `
╭────────────────────────┬───────┬───────╮
│                        │ plain │ Hapax │
├────────────────────────┼───────┼───────┤
│ events                 │     6 │     6 │
│ consumers killed       │     2 │     2 │
│ deliveries             │     6 │     6 │
│ duplicate deliveries   │     2 │     2 │
│ redeliveries by faults │     1 │     1 │
│ duplicate outputs      │     0 │     0 │
│ duplicate effects      │     1 │     0 │
│ lost                   │     0 │     0 │
│ out of order           │     0 │     0 │
╰────────────────────────┴───────┴───────╯
`, "\n"+out.String())
}
