package bench

import (
	"encoding/json"
	"io"
	"slices"
)

// Report is the result of a run.
type Report struct {
	Machine Machine `json:"machine"`
	Rows    []Row   `json:"rows"`

	notes []string
}

// Row is one variant's result.
type Row struct {
	Broker  string `json:"broker"`
	Case    string `json:"case"`
	Variant string `json:"variant"`
	// Payload is the size of a message in bytes.
	Payload int `json:"payload"`
	// MessagesPerSecond is the median of the rounds; Min and Max are the slowest
	// and the fastest of them.
	MessagesPerSecond float64 `json:"msgs_per_s"`
	Min               float64 `json:"min"`
	Max               float64 `json:"max"`
	// P50 and P99 are milliseconds at half of the peak.
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	// AllocsPerMessage counts everything in the process: the source's, too.
	AllocsPerMessage float64 `json:"allocs_per_msg"`
}

func (g *group) row(lane *lane) Row {
	return Row{
		Broker: g.broker.Name, Case: g.name, Variant: lane.variant.Name, Payload: g.options.Payload,
		MessagesPerSecond: round(median(lane.rates), 0),
		Min:               round(slices.Min(lane.rates), 0),
		Max:               round(slices.Max(lane.rates), 0),
		P50:               round(median(lane.p50s), 3),
		P99:               round(median(lane.p99s), 3),
		AllocsPerMessage:  round(median(lane.allocs), 1),
	}
}

// find returns another variant's row of the same broker and case.
func (r *Report) find(row Row, variant string) (Row, bool) {
	i := slices.IndexFunc(r.Rows, func(other Row) bool {
		return other.Broker == row.Broker && other.Case == row.Case && other.Variant == variant
	})
	if i < 0 {
		return Row{}, false
	}
	return r.Rows[i], true
}

// WriteJSON writes the report as one object.
func (r *Report) WriteJSON(out io.Writer) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}
