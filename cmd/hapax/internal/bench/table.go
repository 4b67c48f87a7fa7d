package bench

import (
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// WriteTable writes the report for people, with ratios.
func (r *Report) WriteTable(out io.Writer) {
	writer := table.NewWriter()
	writer.SetOutputMirror(out)
	writer.SetStyle(table.StyleLight)
	writer.Style().Format.Header = text.FormatDefault
	writer.AppendHeader(table.Row{"broker", "case", "variant", "messages/s", "min", "max",
		"/ raw", "/ watermill", "p50 ms", "p99 ms", "allocs/message"})
	var columns []table.ColumnConfig
	for number := 4; number <= 11; number++ {
		columns = append(columns, table.ColumnConfig{Number: number, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	writer.SetColumnConfigs(columns)
	for i, row := range r.Rows {
		if i > 0 && (row.Broker != r.Rows[i-1].Broker || row.Case != r.Rows[i-1].Case) {
			writer.AppendSeparator()
		}
		writer.AppendRow(table.Row{row.Broker, row.Case, row.Variant,
			fmt.Sprintf("%.0f", row.MessagesPerSecond), fmt.Sprintf("%.0f", row.Min), fmt.Sprintf("%.0f", row.Max),
			r.ratio(row, Raw), r.ratio(row, Watermill),
			fmt.Sprintf("%.3f", row.P50), fmt.Sprintf("%.3f", row.P99), fmt.Sprintf("%.1f", row.AllocsPerMessage)})
	}
	writer.Render()
	fmt.Fprintf(out, "\n%s, %d used, %s/%s, %s; payload %d bytes; medians of interleaved rounds.\n",
		r.Machine.CPU, r.Machine.CPUs, r.Machine.OS, r.Machine.Arch, r.Machine.Go, r.Rows[0].Payload)
	fmt.Fprintln(out, "Latencies: at half of each variant's own peak, from the moment a message was due to its acknowledgement.")
	for _, note := range r.notes {
		for line := range strings.SplitSeq(text.WrapSoft(note, 110), "\n") {
			fmt.Fprintln(out, strings.TrimRight(line, " "))
		}
	}
}

// ratio is a row's throughput over that of another variant, if it was measured.
func (r *Report) ratio(row Row, variant string) string {
	other, found := r.find(row, variant)
	if !found || other.MessagesPerSecond == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", row.MessagesPerSecond/other.MessagesPerSecond)
}
