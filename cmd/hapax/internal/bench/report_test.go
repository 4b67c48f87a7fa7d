package bench

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func sample() *Report {
	g := &group{options: Options{Payload: 1024}, broker: Broker{Name: "memory"}, name: Consume}
	report := &Report{
		Machine: Machine{CPU: "Some CPU", CPUs: 2, OS: "linux", Arch: "amd64", Go: "go1.26.0"},
		notes:   []string{"memory: a note for the reader."},
	}
	for _, lane := range []*lane{
		{variant: Variant{Name: Watermill}, rates: []float64{300, 100, 200.4}, p50s: []float64{1}, p99s: []float64{4}, allocs: []float64{30}},
		{variant: Variant{Name: HapaxDedup}, rates: []float64{180, 190, 170}, p50s: []float64{1.23456, 1}, p99s: []float64{5}, allocs: []float64{40.04}},
	} {
		report.Rows = append(report.Rows, g.row(lane))
	}
	return report
}

const golden = `{
  "machine": {
    "cpu": "Some CPU",
    "cpus": 2,
    "os": "linux",
    "arch": "amd64",
    "go": "go1.26.0"
  },
  "rows": [
    {
      "broker": "memory",
      "case": "consume",
      "variant": "watermill",
      "payload": 1024,
      "msgs_per_s": 200,
      "min": 100,
      "max": 300,
      "p50_ms": 1,
      "p99_ms": 4,
      "allocs_per_msg": 30
    },
    {
      "broker": "memory",
      "case": "consume",
      "variant": "hapax-dedup",
      "payload": 1024,
      "msgs_per_s": 180,
      "min": 170,
      "max": 190,
      "p50_ms": 1.117,
      "p99_ms": 5,
      "allocs_per_msg": 40
    }
  ]
}
`

func TestJSONShape(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, sample().WriteJSON(&out))
	require.Equal(t, golden, out.String())
}

func TestTableHasRatiosAndNotes(t *testing.T) {
	var out bytes.Buffer
	sample().WriteTable(&out)
	lines := strings.Split(out.String(), "\n")
	var row string
	for _, line := range lines {
		if strings.Contains(line, HapaxDedup) {
			row = line
		}
	}
	var cells []string
	for cell := range strings.SplitSeq(row, "│") {
		cells = append(cells, strings.TrimSpace(cell))
	}
	require.Equal(t, []string{"", "memory", "consume", "hapax-dedup", "180", "170", "190", "-", "0.90", "1.117", "5.000", "40.0", ""}, cells)
	require.Contains(t, out.String(), "memory: a note for the reader.")
	require.Contains(t, out.String(), "Some CPU, 2 used")
}
