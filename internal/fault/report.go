package fault

import (
	"errors"
	"fmt"
	"strings"
)

// Report is the oracle's judgement of one run.
type Report struct {
	// Events is the number of unique events sent, Unknown how many of them the
	// producer never learned the fate of.
	Events  int `json:"events"`
	Unknown int `json:"unknown"`
	// Effects and Outputs count everything found, copies included.
	Effects int `json:"effects"`
	Outputs int `json:"outputs"`

	// Deliveries counts starts of handlers, DuplicateDeliveries those beyond
	// the first of each event, Redeliveries those beyond the first of each copy
	// that the producer sent.
	Deliveries          int `json:"deliveries"`
	DuplicateDeliveries int `json:"duplicate_deliveries"`
	Redeliveries        int `json:"redeliveries"`
	// DuplicateOutputs and DuplicateEffects count copies beyond the first.
	DuplicateOutputs int `json:"duplicate_outputs"`
	DuplicateEffects int `json:"duplicate_effects"`

	// Renamed counts duplicate outputs under another event ID than the first copy.
	Renamed int `json:"renamed"`

	// Lost counts confirmed events without an effect, or without an output
	// where outputs were looked for; and open ones with one of the two only.
	Lost int `json:"lost"`
	// OutOfOrder counts events whose first effect, or output, came after that of
	// a later event of the same key.
	OutOfOrder int `json:"out_of_order"`
	// Unexpected counts effects and outputs of events that nobody sent; Altered
	// those that carry another key or place than their event; Undead events
	// that were never sent and took effect all the same; Vanished effects that
	// were seen during the run and were gone after it.
	Unexpected int `json:"unexpected"`
	Altered    int `json:"altered"`
	Undead     int `json:"undead"`
	Vanished   int `json:"vanished"`

	// Left is what had not drained; nil when nobody looked.
	Left map[string]int64 `json:"left"`
	// Counts is what happened to the children.
	Counts
	// Problems names the first IDs of each kind of problem.
	Problems map[string][]string `json:"problems,omitempty"`

	exempt exempt
}

// exempt are the findings that are counted but are no problem here.
type exempt struct{ outputs, order, redelivery bool }

func (r *Report) note(kind, id string) {
	if len(r.Problems[kind]) < keptIDs {
		r.Problems[kind] = append(r.Problems[kind], id)
	}
}

// Err lists every problem of the run; nil when each event took effect once.
func (r Report) Err() error {
	var errs []error
	add := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	add(r.Events == 0, "no events were sent: the run proves nothing")
	add(!r.exempt.redelivery && r.Redeliveries == 0, "no redeliveries: the faults did not strike, the run proves nothing")
	add(r.Lost > 0, "%d events lost%s", r.Lost, r.name("lost"))
	add(r.DuplicateEffects > 0, "%d duplicate effects%s", r.DuplicateEffects, r.name("duplicate effects"))
	add(!r.exempt.outputs && r.DuplicateOutputs > 0, "%d duplicate outputs%s", r.DuplicateOutputs, r.name("duplicate outputs"))
	add(r.exempt.outputs && r.Renamed > 0, "%d outputs published again under another event ID%s", r.Renamed, r.name("renamed"))
	add(!r.exempt.order && r.OutOfOrder > 0, "%d events out of order%s%s", r.OutOfOrder, r.name("out of order"), r.name("output out of order"))
	add(r.Unexpected > 0, "%d effects or outputs of events that nobody sent%s", r.Unexpected, r.name("unexpected"))
	add(r.Altered > 0, "%d effects or outputs with another key or place than their event%s", r.Altered, r.name("altered"))
	add(r.Undead > 0, "%d events took effect although their send failed%s", r.Undead, r.name("undead"))
	add(r.Vanished > 0, "%d effects seen during the run were gone after it%s", r.Vanished, r.name("vanished"))
	add(r.Left == nil, "nobody looked whether everything drained")
	add(len(r.Left) > 0, "not drained at the deadline: %v", r.Left)
	return errors.Join(errs...)
}

func (r Report) name(kind string) string {
	if len(r.Problems[kind]) == 0 {
		return ""
	}
	return fmt.Sprintf(", %s: %s", kind, strings.Join(r.Problems[kind], " "))
}

// Summary is the part of a report that is compared between runs.
type Summary struct {
	Deliveries          int `json:"deliveries"`
	DuplicateDeliveries int `json:"duplicate_deliveries"`
	DuplicateOutputs    int `json:"duplicate_outputs"`
	DuplicateEffects    int `json:"duplicate_effects"`
	Lost                int `json:"lost"`
	Kills               int `json:"kills"`
}

// Summary returns the figures by which runs are compared.
func (r Report) Summary() Summary {
	return Summary{
		Deliveries:          r.Deliveries,
		DuplicateDeliveries: r.DuplicateDeliveries,
		DuplicateOutputs:    r.DuplicateOutputs,
		DuplicateEffects:    r.DuplicateEffects,
		Lost:                r.Lost,
		Kills:               r.Kills,
	}
}
