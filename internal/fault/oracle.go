package fault

import (
	"maps"
	"slices"
)

// keptIDs is how many IDs a report names of each kind of problem.
const keptIDs = 20

// Check is the oracle. It counts effects per event ID, as a multiset, and judges
// only by what it is given.
func Check(o Observation) Report {
	expected := make(map[string]Expected, len(o.Expected))
	for _, event := range o.Expected {
		expected[event.ID] = event
	}
	effects := count(o.Effects)
	outputs := count(o.Outputs)
	report := Report{
		Events:   len(o.Expected),
		Counts:   o.Counts,
		Left:     maps.Clone(o.Left),
		exempt:   exempt{outputs: o.OutputsMayRepeat, order: o.Unordered, redelivery: o.MayNotRedeliver},
		Effects:  len(o.Effects),
		Outputs:  len(o.Outputs),
		Problems: map[string][]string{},
	}
	for _, event := range o.Expected {
		switch event.Outcome {
		case SendOK:
			if effects[event.ID] == 0 || o.ExpectOutputs && outputs[event.ID] == 0 {
				report.Lost++
				report.note("lost", event.ID)
			}
		case SendUnknown:
			report.Unknown++
			// It need not have arrived; but if it did, it is like any other.
			if o.ExpectOutputs && (effects[event.ID] == 0) != (outputs[event.ID] == 0) {
				report.Lost++
				report.note("lost", event.ID)
			}
		default:
			if effects[event.ID]+outputs[event.ID] > 0 {
				report.Undead++
				report.note("undead", event.ID)
			}
		}
	}
	report.DuplicateEffects = report.duplicates("duplicate effects", effects)
	report.DuplicateOutputs = report.duplicates("duplicate outputs", outputs)
	report.checkIdentity(o.Outputs)
	report.checkOrigin(expected, o.Effects, o.Outputs)
	report.checkOrder("out of order", o.Effects)
	report.checkOrder("output out of order", o.Outputs)
	for id, earlier := range sorted(count(o.Earlier)) {
		if earlier > effects[id] {
			report.Vanished += earlier - effects[id]
			report.note("vanished", id)
		}
	}
	report.countDeliveries(o.Deliveries)
	return report
}

func count(effects []Effect) map[string]int {
	counts := make(map[string]int, len(effects))
	for _, effect := range effects {
		counts[effect.ID]++
	}
	return counts
}

// sorted walks a map by key, so that equal runs name equal IDs.
func sorted(counts map[string]int) func(yield func(string, int) bool) {
	return func(yield func(string, int) bool) {
		for _, id := range slices.Sorted(maps.Keys(counts)) {
			if !yield(id, counts[id]) {
				return
			}
		}
	}
}

func (r *Report) duplicates(kind string, counts map[string]int) (extra int) {
	for id, times := range sorted(counts) {
		if times > 1 {
			extra += times - 1
			r.note(kind, id)
		}
	}
	return extra
}

// checkIdentity looks for copies of an output under another event ID than its
// first: the next consumer cannot tell that they are copies.
func (r *Report) checkIdentity(outputs []Effect) {
	first := make(map[string]string, len(outputs))
	for _, output := range outputs {
		identity, seen := first[output.ID]
		switch {
		case !seen:
			first[output.ID] = output.Identity
		case identity != output.Identity:
			r.Renamed++
			r.note("renamed", output.ID)
		}
	}
}

// checkOrigin looks for effects of events that nobody sent, and for effects that
// carry another key or place than their event.
func (r *Report) checkOrigin(expected map[string]Expected, lists ...[]Effect) {
	for _, effect := range slices.Concat(lists...) {
		event, known := expected[effect.ID]
		switch {
		case !known:
			r.Unexpected++
			r.note("unexpected", effect.ID)
		case event.Key != effect.Key || event.Seq != effect.Seq:
			r.Altered++
			r.note("altered", effect.ID)
		}
	}
}

// checkOrder looks at the first effect of each event: within a key their Seq must
// rise. Later copies are duplicates and counted as such.
func (r *Report) checkOrder(kind string, effects []Effect) {
	seen := make(map[string]bool, len(effects))
	last := map[string]int64{}
	for _, effect := range effects {
		if seen[effect.ID] {
			continue
		}
		seen[effect.ID] = true
		if effect.Seq < last[effect.Key] {
			r.OutOfOrder++
			r.note(kind, effect.ID)
			continue
		}
		last[effect.Key] = effect.Seq
	}
}

// countDeliveries tells copies that the producer sent from redeliveries that the
// faults forced: only the second prove that the faults happened.
func (r *Report) countDeliveries(deliveries []Delivery) {
	type copied struct {
		id   string
		copy int
	}
	events, copies := map[string]bool{}, map[copied]bool{}
	for _, delivery := range deliveries {
		events[delivery.ID] = true
		copies[copied{delivery.ID, delivery.Copy}] = true
	}
	r.Deliveries = len(deliveries)
	r.DuplicateDeliveries = len(deliveries) - len(events)
	r.Redeliveries = len(deliveries) - len(copies)
}
