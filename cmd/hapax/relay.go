package main

import (
	"github.com/spf13/cobra"

	"github.com/hapax-go/hapax/framework"
)

// relayCommand publishes the outbox in a process of its own.
func relayCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "relay",
		Short: "Publish the outbox of the sql block to the broker, until a signal ends it",
		Long: `Publishes the rows of the outbox (sql.outbox) to the broker. Any number of relays
share the work, by shards of keys, with those inside of services; when one dies
another takes over its shards within seconds. Health and metrics are served at
admin.address: each process on a host needs one of its own, and port 0 takes a free
one (HAPAX_ADMIN_ADDRESS=127.0.0.1:0).

Services run a relay of their own unless sql.outbox.relay is false. This command is
for programs that write to the outbox without the framework, and for running relays
apart from services.`,
		Example: "  hapax relay\n  HAPAX_ADMIN_ADDRESS=127.0.0.1:0 hapax relay\n  HAPAX_SQL_DSN=file:shop.db hapax relay --file hapax.yaml",
		Args:    cobra.NoArgs,
	}
	load := configFlag(command)
	command.RunE = func(command *cobra.Command, _ []string) error {
		cfg, err := load()
		if err != nil {
			return err
		}
		return framework.RunRelay(command.Context(), cfg)
	}
	return command
}
