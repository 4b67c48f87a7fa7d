package fault

import (
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Column is one run in a table.
type Column struct {
	Name   string
	Report Report
}

// WriteTable writes the runs' figures side by side, for people.
func WriteTable(out io.Writer, columns ...Column) error {
	writer := table.NewWriter()
	writer.SetStyle(table.StyleRounded)
	writer.Style().Format.Header = text.FormatDefault
	header := table.Row{""}
	configs := make([]table.ColumnConfig, 0, len(columns))
	for i, column := range columns {
		header = append(header, column.Name)
		configs = append(configs, table.ColumnConfig{Number: i + 2, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	writer.AppendHeader(header)
	writer.SetColumnConfigs(configs)
	row := func(name string, figure func(Report) int) {
		line := table.Row{name}
		for _, column := range columns {
			line = append(line, figure(column.Report))
		}
		writer.AppendRow(line)
	}
	row("events", func(r Report) int { return r.Events })
	row("consumers killed", func(r Report) int { return r.Kills })
	row("deliveries", func(r Report) int { return r.Deliveries })
	row("duplicate deliveries", func(r Report) int { return r.DuplicateDeliveries })
	row("redeliveries by faults", func(r Report) int { return r.Redeliveries })
	row("duplicate outputs", func(r Report) int { return r.DuplicateOutputs })
	row("duplicate effects", func(r Report) int { return r.DuplicateEffects })
	row("lost", func(r Report) int { return r.Lost })
	row("out of order", func(r Report) int { return r.OutOfOrder })
	if _, err := fmt.Fprintln(out, writer.Render()); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return nil
}
