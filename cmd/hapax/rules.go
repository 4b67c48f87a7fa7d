package main

import (
	"encoding/json"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/hapax-go/hapax/dedup"
)

// rulesCommand prints the rules table.
func rulesCommand() *cobra.Command {
	var asJSON bool
	command := &cobra.Command{
		Use:   "rules",
		Short: "Print the rules table: which broker gets which strategy, and why",
		Example: `  hapax rules
  hapax rules --json`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			rules := append(append([]dedup.Rule{}, dedup.Rules...), dedup.SQLRule)
			if asJSON {
				encoder := json.NewEncoder(command.OutOrStdout())
				encoder.SetIndent("", "  ")
				return encoder.Encode(rules)
			}
			printed := table.NewWriter()
			printed.SetOutputMirror(command.OutOrStdout())
			printed.SetStyle(table.StyleLight)
			printed.Style().Format.Header = text.FormatDefault
			printed.SetColumnConfigs([]table.ColumnConfig{{Number: 3, WidthMax: 44, WidthMaxEnforcer: text.WrapSoft}, {Number: 4, WidthMax: 52, WidthMaxEnforcer: text.WrapSoft}})
			printed.AppendHeader(table.Row{"broker", "strategy", "what the broker does", "what Hapax adds"})
			for _, rule := range rules {
				printed.AppendRow(table.Row{rule.Broker, rule.Strategy, rule.BrokerDoes, rule.HapaxAdds})
				printed.AppendSeparator()
			}
			printed.Render()
			return nil
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return command
}
