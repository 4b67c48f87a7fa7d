package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/hapax-go/hapax/internal/fault"
)

// Command returns "hapax demo".
func Command() *cobra.Command {
	s := settings{patience: 45 * time.Second}
	var asJSON, keep bool
	command := &cobra.Command{
		Use:   "demo",
		Short: "Black Friday: what duplicates do to a plain consumer, and to Hapax",
		Long: `Plays Black Friday on two lanes at once, with the same orders: a plain
at-least-once consumer (do the work, then acknowledge), and Hapax.

Orders are fulfilled (a message out for each) and shipped (a row for each).
Producers retry, traffic spikes, a consumer joins, and consumers are killed with
SIGKILL, some exactly between effect and acknowledgement. Then it counts, from the
topics and the tables.

The exit status is 1 if Hapax lost or duplicated anything, and also if the plain
consumer did not: then the faults proved nothing. On a broker that cannot publish
and acknowledge as one (RabbitMQ), a kill between the two publishes a shipping
request again. It must carry the same event ID, or Hapax fails; shipping takes it
once.

A broker's server is the one that ` + "`make servers`" + ` has started in a checkout of Hapax,
from within which this is run (make servers ONLY=kafka), or the one whose address is
in HAPAX_TEST_KAFKA, HAPAX_TEST_RABBITMQ and so on; else it is looked for on loopback,
at its usual port. What the run makes there is removed at its end.`,
		Example: `  hapax demo
  hapax demo --events 10000 --seed 7
  hapax demo --sql sqlite:shop.db
  hapax demo --broker sqlite --json > result.json`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) (err error) {
			if s.events < 100 || s.events > 1_000_000 {
				return fmt.Errorf("--events is %d, expected 100 to 1000000: fewer prove nothing", s.events)
			}
			if s.consumers < 1 || s.consumers > 16 {
				return fmt.Errorf("--consumers is %d, expected 1 to 16", s.consumers)
			}
			for s.seed == 0 {
				s.seed = rand.Uint64N(1_000_000)
			}
			if s.folder, err = os.MkdirTemp("", "hapax-demo-"); err != nil {
				return err
			}
			if keep {
				defer func() { _, _ = fmt.Fprintln(command.ErrOrStderr(), "kept:", s.folder) }()
			} else {
				defer func() { _ = os.RemoveAll(s.folder) }()
			}
			out, show := command.OutOrStdout(), command.OutOrStdout()
			if asJSON {
				show = command.ErrOrStderr()
			}
			result, err := run(command.Context(), s, newScreen(show))
			if err != nil {
				return err
			}
			if asJSON {
				err = json.NewEncoder(out).Encode(result.summary())
			} else {
				err = result.print(out)
			}
			if err != nil {
				return err
			}
			return fault.Verdict(result.hapax, result.plain)
		},
	}
	flags := command.Flags()
	flags.StringVar(&s.broker, "broker", "sqlite", "broker to run on: "+strings.Join(brokerNames(), ", "))
	flags.StringVar(&s.sql, "sql", "", "database beside the Hapax lane's broker: a DSN of PostgreSQL, MySQL, MariaDB or SQLite (default none)")
	flags.IntVar(&s.events, "events", 4000, "number of orders")
	flags.Uint64Var(&s.seed, "seed", 0, "seed of orders, repetitions and kills; 0 draws one")
	flags.IntVar(&s.consumers, "consumers", 2, "consumers a lane starts with")
	flags.BoolVar(&asJSON, "json", false, "print the result as one JSON object on standard output")
	flags.BoolVar(&keep, "keep", false, "keep the run's database files and say where they are")
	command.AddCommand(workerCommand())
	return command
}

// newScreen is live on a terminal and lines elsewhere.
func newScreen(out io.Writer) screen {
	if file, ok := out.(*os.File); ok && isatty.IsTerminal(file.Fd()) && os.Getenv("TERM") != "dumb" {
		return newLive(file)
	}
	return newLines(out)
}

// summary is the JSON object of a run.
type summary struct {
	Broker  string        `json:"broker"`
	Seed    uint64        `json:"seed"`
	Events  int           `json:"events"`
	Seconds float64       `json:"seconds"`
	Plain   fault.Summary `json:"plain"`
	Hapax   fault.Summary `json:"hapax"`
}

func (r *result) summary() summary {
	return summary{
		Broker: r.broker, Seed: r.seed, Events: r.events, Seconds: float64(int(r.seconds*10)) / 10,
		Plain: r.plain.Summary(), Hapax: r.hapax.Summary(),
	}
}
