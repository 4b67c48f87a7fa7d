package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/goccy/go-yaml"
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
	var checkJSON, showJSON *bool
	load := func() (*config.Config, error) { return config.Load(file, os.Environ()) }
	check := &cobra.Command{
		Use:     "check",
		Short:   "Report every problem of the configuration, with file, line and key",
		Example: "  hapax config check\n  hapax config check --file hapax.yaml --json",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			cfg, err := load()
			if *checkJSON {
				return errors.Join(printJSON(command.OutOrStdout(), checkedConfig(cfg, err)), err)
			}
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
		Example: "  HAPAX_DEDUP_WINDOW=1d hapax config show\n  hapax config show --json",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			cfg, err := load()
			if err != nil {
				return err
			}
			if !*showJSON {
				return cfg.Render(command.OutOrStdout())
			}
			var rendered bytes.Buffer
			if err := cfg.Render(&rendered); err != nil {
				return err
			}
			asJSON, err := yaml.YAMLToJSON(rendered.Bytes())
			if err != nil {
				return err
			}
			return printJSON(command.OutOrStdout(), json.RawMessage(asJSON))
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
	checkJSON, showJSON = jsonFlag(check, "one JSON object, with every problem"), jsonFlag(show, "one JSON object")
	for _, reading := range []*cobra.Command{check, show} {
		reading.Flags().StringVarP(&file, "file", "f", "", "the file to read (default: $HAPAX_CONFIG, else hapax.yaml)")
	}
	command.AddCommand(check, show, schema, example)
	return command
}

// checked is what hapax config check --json prints.
type checked struct {
	OK       bool      `json:"ok"`
	Service  string    `json:"service,omitempty"`
	Broker   string    `json:"broker,omitempty"`
	Problems []problem `json:"problems"`
}

type problem struct {
	Where   string `json:"where,omitempty"`
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
}

func checkedConfig(cfg *config.Config, err error) checked {
	result := checked{OK: err == nil, Problems: []problem{}}
	if err == nil {
		result.Service, result.Broker = cfg.Service, cfg.Broker
		return result
	}
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for _, one := range all {
		if found, ok := errors.AsType[*config.Problem](one); ok {
			result.Problems = append(result.Problems, problem{found.Where, found.Path, found.Message})
		} else {
			result.Problems = append(result.Problems, problem{Message: one.Error()})
		}
	}
	return result
}
