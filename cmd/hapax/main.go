// Command hapax is the command line of Hapax: it shows the idea (demo), measures
// it (bench), and prints the rules and the configuration in force.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/hapax-go/hapax/cmd/hapax/internal/bench"
	"github.com/hapax-go/hapax/cmd/hapax/internal/demo"
	"github.com/hapax-go/hapax/cmd/hapax/internal/unasked"
)

func init() { unasked.Restore() }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := execute(ctx, root())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "hapax:", err)
		os.Exit(exitStatus(err))
	}
}

func root() *cobra.Command {
	command := &cobra.Command{
		Use:   "hapax",
		Short: "One event takes effect once, on any broker",
		Long: `Hapax makes one event take effect once, on any broker.

Brokers deliver at least once, which means at least twice: crashes before an
acknowledgement, producer retries and rebalances. hapax demo shows what that
does to a plain consumer, and what Hapax does about it.`,
		Example:       "  hapax demo\n  hapax rules\n  hapax bench --broker sqlite",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	// Cobra's own flag prints an error of its own, which main then prints again.
	asked := command.Flags().BoolP("version", "v", false, "version for hapax")
	command.RunE = func(command *cobra.Command, _ []string) error {
		if !*asked {
			return command.Help()
		}
		_, err := fmt.Fprintf(command.OutOrStdout(), "hapax version %s\n", version())
		return err
	}
	command.AddCommand(newCommand(), demo.Command(), bench.Command(), rulesCommand(), configCommand(), doctorCommand(), dlqCommand(), publishCommand(), tailCommand(), duplicatesCommand(), auditCommand(), relayCommand(), outboxCommand(), migrateCommand())
	return withConventions(command)
}

// version is the module's version, as the Go tool recorded it in the binary.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unknown)"
}
