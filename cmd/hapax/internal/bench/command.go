package bench

import (
	"strings"

	"github.com/spf13/cobra"
)

// Command is hapax bench.
func Command() *cobra.Command {
	options := Options{Rounds: 5, Payload: 1024, InFlight: 1000, Seed: 1}
	var asJSON bool
	var names []string
	for _, broker := range Brokers() {
		names = append(names, broker.Name)
	}
	command := &cobra.Command{
		Use:   "bench",
		Short: "Measure throughput and latency against the raw client and Watermill alone",
		Long: `Measures throughput and latency of Hapax beside the raw client and Watermill
alone, with the same handler, in interleaved rounds of one process. Ratios are
the result; absolute figures only illustrate. All of it takes about a quarter of
an hour where every server runs, one broker a minute or two.

Broker "memory" is no broker but a source in the process: it shows what the
Router and the middlewares cost by themselves. Files of "sqlite" go to the
folder for temporary files; set TMPDIR to measure another disk.

The other brokers and the databases are those that ` + "`make servers`" + ` has started in a
checkout of Hapax, from within which this is run, or those whose addresses are in
HAPAX_TEST_KAFKA, HAPAX_TEST_RABBITMQ and so on. What has no server is left out.

Progress goes to standard error, the result to standard output.`,
		Example: `  hapax bench
  hapax bench --broker memory --case consume --rounds 9
  hapax bench --broker sqlite --variant raw,hapax-dedup --payload 256
  hapax bench --json > bench.json`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			options.Progress = command.ErrOrStderr()
			report, err := Run(command.Context(), options)
			if err != nil {
				return err
			}
			if asJSON {
				return report.WriteJSON(command.OutOrStdout())
			}
			report.WriteTable(command.OutOrStdout())
			return nil
		},
	}
	flags := command.Flags()
	flags.StringSliceVar(&options.Brokers, "broker", nil, "brokers to measure: "+strings.Join(names, ", ")+" (default all)")
	flags.StringSliceVar(&options.Cases, "case", nil, "cases to measure: "+strings.Join(cases, ", ")+" (default all)")
	flags.StringSliceVar(&options.Variants, "variant", nil, "variants to measure: "+strings.Join(variants, ", ")+" (default all)")
	flags.IntVar(&options.Rounds, "rounds", options.Rounds, "rounds that count, after one that does not")
	flags.IntVar(&options.Messages, "messages", 0, "messages in a round (default: about a second's worth)")
	flags.IntVar(&options.Payload, "payload", options.Payload, "size of a message in bytes")
	flags.IntVar(&options.InFlight, "in-flight", options.InFlight, "messages unacknowledged at a time")
	flags.IntVar(&options.Duplicates, "duplicates", 0, "percent of the messages that are sent twice")
	flags.Uint64Var(&options.Seed, "seed", options.Seed, "draws payloads and the order of the variants")
	flags.BoolVar(&asJSON, "json", false, "print one JSON object instead of a table")
	return command
}
