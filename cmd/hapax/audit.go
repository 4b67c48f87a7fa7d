package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// auditCommand finds effects in a user's table that were made more than once.
func auditCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "audit TABLE --by COLUMN[,COLUMN...]",
		Short: "Find effects in a table of yours that were made more than once",
		Long: `Prints the SQL that finds effects which were made more than once: rows of a table
that share what ties an effect to its cause, such as an order's number or the event's
ID (handlers.IdempotencyKey). With --run it runs the SQL on the database of the sql
block, in one transaction that reads only; a SQLite file is put into WAL mode, as by
every command, and made when it is missing.

It asks the effects themselves and not what Hapax has noted, so it also finds what
was made twice before Hapax was there, or around it.

Exit status: 0 every ID has one effect, or the SQL was only printed; 1 it could not
run; 2 there are duplicates.`,
		Example: "  hapax audit charges --by order_id\n  hapax audit billing.charges --by order_id,kind --dialect postgres --json",
		Args:    cobra.ExactArgs(1),
	}
	load, asJSON := configFlag(command), jsonFlag(command, "one JSON object")
	by := command.Flags().StringSlice("by", nil, "the columns that must be unique together (required)")
	run := command.Flags().Bool("run", false, "run the SQL, and print what it found")
	limit := command.Flags().Int("limit", 20, "duplicates to list")
	dialect := command.Flags().String("dialect", "", "print for postgres, mysql or sqlite (default: that of the sql block)")
	_ = command.MarkFlagRequired("by") // it exists
	command.RunE = func(command *cobra.Command, arguments []string) error {
		speaks, err := auditDialect(*dialect, *run, func() (sqldb.Dialect, error) {
			cfg, err := load()
			if err != nil || !cfg.SQL.Enabled() {
				return sqldb.SQLite, err
			}
			return sqldb.Dialect(cfg.SQL.DSN.Driver()), nil
		})
		if err != nil {
			return err
		}
		a, err := newAudit(speaks, arguments[0], *by, *limit)
		if err != nil {
			return err
		}
		if !*run {
			return printAudit(command, a.queries(), *asJSON)
		}
		cfg, err := load()
		if err != nil {
			return err
		}
		db, _, err := framework.OpenDatabase(command.Context(), cfg)
		if err != nil {
			return err
		}
		report, err := during(command.ErrOrStderr(), "counting the effects in "+arguments[0], func() (auditReport, error) { return a.run(command.Context(), db) })
		if err := errors.Join(err, db.Close()); err != nil {
			return err
		}
		return reportAudit(command, a, report, *asJSON)
	}
	return command
}

// auditDialect is the one asked for, or that of the config.
func auditDialect(asked string, run bool, configured func() (sqldb.Dialect, error)) (sqldb.Dialect, error) {
	switch dialect := sqldb.Dialect(asked); {
	case asked == "":
		return configured()
	case run:
		return "", errors.New("--dialect is for printing: --run speaks with the database of the sql block")
	case dialect != sqldb.Postgres && dialect != sqldb.MySQL && dialect != sqldb.SQLite:
		return "", fmt.Errorf("--dialect is %q, expected postgres, mysql or sqlite", asked)
	default:
		return dialect, nil
	}
}

func printAudit(command *cobra.Command, queries auditQueries, asJSON bool) error {
	out := command.OutOrStdout()
	if asJSON {
		return printJSON(out, queries)
	}
	_, err := fmt.Fprintf(out, `-- How many IDs there are, how many effects they have, and how many are too many.
%s;

-- Effects without an ID, of which nobody can tell.
%s;

-- IDs with more than one effect.
%s;
`, queries.Summary, queries.Without, queries.Duplicates)
	return err
}

func reportAudit(command *cobra.Command, a audit, report auditReport, asJSON bool) error {
	out := command.OutOrStdout()
	if asJSON {
		if err := printJSON(out, report); err != nil {
			return err
		}
	} else {
		_, err := fmt.Fprintf(out, "ids         %d\neffects     %d\ntoo many    %d\nwithout id  %d\n", report.IDs, report.Effects, report.Surplus, report.Without)
		if err == nil && len(report.Duplicates) > 0 {
			printed := newTable(strings.Join(a.by, ", "), "effects")
			for _, found := range report.Duplicates {
				printed.AppendRow([]any{strings.Join(found.ID, ", "), found.Effects})
			}
			err = printTable(out, printed)
		}
		if err != nil {
			return err
		}
	}
	if report.Surplus > 0 {
		return exitError{fmt.Errorf("%d of %d effects in %s are too many", report.Surplus, report.Effects, a.table.Name), exitFound}
	}
	return nil
}
