package demo

import (
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/hapax-go/hapax/internal/fault"
)

// print ends a run: a table, and what it means.
func (r *result) print(out io.Writer) error {
	printed := table.NewWriter()
	printed.SetStyle(table.StyleRounded)
	printed.Style().Format.Header = text.FormatDefault
	printed.SetColumnConfigs([]table.ColumnConfig{
		{Number: 2, Align: text.AlignRight, AlignHeader: text.AlignRight},
		{Number: 3, Align: text.AlignRight, AlignHeader: text.AlignRight},
	})
	printed.AppendHeader(table.Row{"", "plain", "Hapax"})
	row := func(name string, figure func(fault.Report) int) {
		printed.AppendRow(table.Row{name, figure(r.plain), figure(r.hapax)})
	}
	row("orders", func(r fault.Report) int { return r.Events })
	row("consumers killed", func(r fault.Report) int { return r.Kills })
	row("deliveries", func(r fault.Report) int { return r.Deliveries })
	row("  of them duplicates", func(r fault.Report) int { return r.DuplicateDeliveries })
	row("duplicate shipping requests", func(r fault.Report) int { return r.DuplicateOutputs })
	row("duplicate shipments", func(r fault.Report) int { return r.DuplicateEffects })
	row("orders lost", func(r fault.Report) int { return r.Lost })
	row("orders out of order", func(r fault.Report) int { return r.OutOfOrder })
	_, err := fmt.Fprintf(out, "\n%s\n\n%d parcels too many from the plain consumer, %d from Hapax.  (%s, seed %d, %.0f s)\n",
		printed.Render(), r.plain.DuplicateEffects, r.hapax.DuplicateEffects, r.broker, r.seed, r.seconds)
	if err == nil && r.hapax.DuplicateOutputs > 0 && r.hapax.Err() == nil {
		_, err = fmt.Fprintf(out, "%d shipping requests were published again after a kill, under the same event ID: shipping took each once.\n", r.hapax.DuplicateOutputs)
	}
	return err
}
