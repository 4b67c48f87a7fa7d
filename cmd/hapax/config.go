package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/hapax-go/hapax/framework/config"
)

// configCommand checks and prints the configuration.
func configCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "config",
		Short: "Check, show and describe hapax.yaml",
	}
	var file string
	load := func() (*config.Config, error) { return config.Load(file, os.Environ()) }
	check := &cobra.Command{
		Use:     "check",
		Short:   "Report every problem of the configuration, with file, line and key",
		Example: "  hapax config check\n  hapax config check --file deploy/hapax.yaml",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			cfg, err := load()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(command.OutOrStdout(), "ok: service %s on broker %s\n", cfg.Service, cfg.Broker)
			return err
		},
	}
	show := &cobra.Command{
		Use:     "show",
		Short:   "Print the configuration in force: defaults, file, HAPAX_ variables; secrets masked",
		Example: "  HAPAX_DEDUP_WINDOW=1d hapax config show",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			cfg, err := load()
			if err != nil {
				return err
			}
			return cfg.Render(command.OutOrStdout())
		},
	}
	schema := &cobra.Command{
		Use:     "schema",
		Short:   "Print the JSON Schema of hapax.yaml, for editors",
		Example: "  hapax config schema > hapax.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			_, err := command.OutOrStdout().Write(config.Schema())
			return err
		},
	}
	example := &cobra.Command{
		Use:     "example",
		Short:   "Print a hapax.yaml with every key, its meaning and its default",
		Example: "  hapax config example > hapax.yaml",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			_, err := command.OutOrStdout().Write(config.Example())
			return err
		},
	}
	for _, reading := range []*cobra.Command{check, show} {
		reading.Flags().StringVarP(&file, "file", "f", "", "the file to read (default: $HAPAX_CONFIG, else hapax.yaml)")
	}
	command.AddCommand(check, show, schema, example)
	return command
}
