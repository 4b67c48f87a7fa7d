package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
)

// rulesCommand prints the rules table.
func rulesCommand() *cobra.Command {
	var asJSON, explain bool
	var load func() (*config.Config, error)
	command := &cobra.Command{
		Use:   "rules [--explain] [TOPIC | HANDLER=TOPIC]...",
		Short: "Print the rules table, or what this config guarantees",
		Long: `Print the rules table: which broker gets which strategy, and why.

With --explain: what the config at hand guarantees, for each kind of effect that a
handler can have, in words. Topics are those of the arguments, each with the handler
that reads it when it has another name; without arguments those of the handlers
block, else "orders" as an example.

Exit status: 0, 1 the config cannot be read.`,
		Example: `  hapax rules
  hapax rules --json
  hapax rules --explain orders`,
		RunE: func(command *cobra.Command, arguments []string) error {
			if explain {
				return explainRules(command, load, arguments, asJSON)
			}
			if len(arguments) > 0 {
				return errors.New("topics are for --explain: add it")
			}
			rules := append(append([]dedup.Rule{}, dedup.Rules...), dedup.SQLRule)
			if asJSON {
				encoder := json.NewEncoder(command.OutOrStdout())
				encoder.SetIndent("", "  ")
				return encoder.Encode(rules)
			}
			printed := newTable("broker", "strategy", "what the broker does", "what Hapax adds")
			printed.SetColumnConfigs([]table.ColumnConfig{{Number: 3, WidthMax: 44, WidthMaxEnforcer: text.WrapSoft}, {Number: 4, WidthMax: 52, WidthMaxEnforcer: text.WrapSoft}})
			for _, rule := range rules {
				printed.AppendRow(table.Row{rule.Broker, rule.Strategy, rule.BrokerDoes, rule.HapaxAdds})
				printed.AppendSeparator()
			}
			return printTable(command.OutOrStdout(), printed)
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	command.Flags().BoolVar(&explain, "explain", false, "say what the config guarantees")
	load = configFlag(command)
	return command
}

// explainRules says what a config guarantees.
func explainRules(command *cobra.Command, load func() (*config.Config, error), arguments []string, asJSON bool) error {
	cfg, err := load()
	if err != nil {
		return err
	}
	topics, err := handlerTopics(cfg, arguments)
	if err != nil {
		return err
	}
	if len(topics) == 0 {
		topics = map[string]string{"orders": "orders"}
	}
	explanations := []framework.Explanation{}
	for _, handler := range slices.Sorted(maps.Keys(topics)) {
		explanation, err := framework.Explain(cfg, topics[handler], handler)
		if err != nil {
			return fmt.Errorf("handler %s: %w", handler, err)
		}
		explanations = append(explanations, explanation)
	}
	if asJSON {
		return printJSON(command.OutOrStdout(), explanations)
	}
	for i, explanation := range explanations {
		if i > 0 {
			_, _ = fmt.Fprintln(command.OutOrStdout())
		}
		if _, err := fmt.Fprint(command.OutOrStdout(), explanation); err != nil {
			return err
		}
	}
	return nil
}
