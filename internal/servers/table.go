package servers

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Table prints rows in aligned columns; the first row is the heading. Empty
// cells show as a dash.
func Table(w io.Writer, rows [][]string) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if cell == "" {
				cell = "-"
			}
			separator := "\t"
			if i == len(row)-1 {
				separator = "\n"
			}
			fmt.Fprint(out, strings.ReplaceAll(cell, "\n", " "), separator)
		}
	}
	return out.Flush()
}
