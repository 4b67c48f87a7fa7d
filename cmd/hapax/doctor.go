package main

import (
	"fmt"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/framework"
)

// diagnosis is one line of hapax doctor.
type diagnosis struct {
	// Status is ok, warning, unsafe or allowed.
	Status  string `json:"status"`
	Check   string `json:"check"`
	About   string `json:"about,omitempty"`
	Found   string `json:"found,omitempty"`
	Problem string `json:"problem,omitempty"`
	Fix     string `json:"fix,omitempty"`
}

// doctorCommand checks what a service's guarantees rest on.
func doctorCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "doctor [TOPIC | HANDLER=TOPIC]...",
		Short: "Connect, and check what would make the guarantees false",
		Long: `Connect to the broker and the databases of the config, and check what would make
the guarantees false: replication, retention against the dedup window, persistence,
eviction, queue types and limits, indexes, isolation, clocks. A service runs the
same checks when it starts, and refuses when one is unsafe, unless hapax.yaml
allows it by name (allow: [kafka-min-isr]). A warning makes no guarantee false by
itself, or is about what a server does not tell.

What it cannot see: limits that a policy sets on a RabbitMQ queue, and the clocks of
Kafka, RabbitMQ and SQS: those servers do not tell them.

Topics are those of the arguments, each with the handler that reads it when it has
another name; without arguments those of the handlers block. When that names none
either, only broker and databases are checked, and a warning says so. Nothing is
created or changed, but for SQLite files: one that is missing is made, and one that is
there is put into WAL mode.

Exit status: 0 nothing is unsafe (there may be warnings), 1 the checks could not
run, 2 something is unsafe.`,
		Example: "  hapax doctor orders\n  hapax doctor --json orders audit=orders",
	}
	load, asJSON := configFlag(command), jsonFlag(command, "a JSON array with every check")
	command.RunE = func(command *cobra.Command, arguments []string) error {
		cfg, err := load()
		if err != nil {
			return err
		}
		handlers, err := handlerTopics(cfg, arguments)
		if err != nil {
			return err
		}
		findings, _ := during(command.ErrOrStderr(), "asking "+cfg.Broker, func() ([]adapters.Finding, error) {
			return framework.Diagnose(command.Context(), cfg, quietLogger(command), handlers), nil
		})
		if len(handlers) == 0 {
			findings = append(findings, adapters.Finding{
				Name: "topics", Problem: "no topic was checked", Fix: "name them as arguments, such as: hapax doctor orders",
			})
		}
		diagnoses := diagnose(findings, cfg.Allow)
		if *asJSON {
			err = printJSON(command.OutOrStdout(), diagnoses)
		} else {
			err = printDiagnoses(command, diagnoses)
		}
		if unsafe := count(diagnoses, "unsafe"); err == nil && unsafe > 0 {
			return exitError{fmt.Errorf("%d of %d checks are unsafe: a service with this config refuses to start", unsafe, len(diagnoses)), exitFound}
		}
		return err
	}
	return command
}

func diagnose(findings []adapters.Finding, allow []string) []diagnosis {
	list := make([]diagnosis, 0, len(findings))
	for _, finding := range findings {
		d := diagnosis{"ok", finding.Name, finding.About, finding.Found, finding.Problem, finding.Fix}
		switch {
		case finding.OK():
		case finding.Fatal && framework.Allowed(finding, allow):
			d.Status = "allowed"
		case finding.Fatal:
			d.Status = "unsafe"
		default:
			d.Status = "warning"
		}
		list = append(list, d)
	}
	return list
}

func count(diagnoses []diagnosis, status string) (n int) {
	for _, d := range diagnoses {
		if d.Status == status {
			n++
		}
	}
	return n
}

// printDiagnoses prints a table of all checks, then what to do about each that is
// not in order.
func printDiagnoses(command *cobra.Command, diagnoses []diagnosis) error {
	out := command.OutOrStdout()
	printed := newTable("", "check", "about", "found")
	for _, d := range diagnoses {
		found := d.Found
		if d.Problem != "" {
			found = "see below"
		}
		printed.AppendRow(table.Row{d.Status, d.Check, d.About, found})
	}
	if err := printTable(out, printed); err != nil {
		return err
	}
	for _, d := range diagnoses {
		if d.Problem == "" {
			continue
		}
		name := d.Check
		if d.About != "" {
			name += " of " + d.About
		}
		if _, err := fmt.Fprintf(out, "\n%s: %s\n  %s\n  To do: %s\n", d.Status, name, d.Problem, d.Fix); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "\n%d ok, %d warnings, %d unsafe, %d allowed\n", count(diagnoses, "ok"), count(diagnoses, "warning"), count(diagnoses, "unsafe"), count(diagnoses, "allowed"))
	return err
}
