package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/relay"
)

// outboxCommand looks at the outbox and at what could not be published.
func outboxCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "outbox",
		Short: "Show what waits in the outbox; retry or discard what was parked",
	}
	command.AddCommand(outboxStatus(), outboxRetry(), outboxDiscard())
	return command
}

// withOutbox opens the outbox of the sql block for one command.
func withOutbox(ctx context.Context, load func() (*config.Config, error), use func(*relay.Table) error) (err error) {
	cfg, err := load()
	if err != nil {
		return err
	}
	db, dialect, err := framework.OpenDatabase(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	table, err := relay.NewTable(db, outbox.Config{Dialect: dialect, Table: framework.TableNames(cfg).OutboxTable()})
	if err != nil {
		return err
	}
	return use(table)
}

type outboxReport struct {
	relay.Status
	Rows []relay.Parked `json:"parked_rows"`
}

func outboxStatus() *cobra.Command {
	command := &cobra.Command{
		Use:     "status",
		Short:   "Print how many rows wait, how old the oldest is, and which are parked and why",
		Example: "  hapax outbox status\n  hapax outbox status --json --limit 1000",
		Args:    cobra.NoArgs,
	}
	load, asJSON := configFlag(command), jsonFlag(command, "one JSON object")
	limit := command.Flags().Int("limit", 20, "parked rows to list")
	command.RunE = func(command *cobra.Command, _ []string) error {
		if *limit < 0 {
			return fmt.Errorf("--limit is %d, expected at least 0", *limit)
		}
		return withOutbox(command.Context(), load, func(table *relay.Table) error {
			report := outboxReport{Rows: []relay.Parked{}}
			var err error
			if report.Status, err = table.Status(command.Context()); err != nil {
				return err
			}
			rows, err := table.Parked(command.Context(), *limit)
			if err != nil {
				return err
			}
			report.Rows = append(report.Rows, rows...)
			out := command.OutOrStdout()
			if *asJSON {
				return printJSON(out, report)
			}
			_, err = fmt.Fprintf(out, "waiting  %d, the oldest for %s\nparked   %d\nrelays   %d, owning %d of %d shards\n",
				report.Waiting, report.Oldest.Round(time.Millisecond), report.Parked, report.Relays, report.Owned, outbox.Shards)
			if len(rows) == 0 || err != nil {
				return err
			}
			printed := newTable("row", "topic", "key", "event", "attempts", "reason")
			for _, row := range rows {
				printed.AppendRow([]any{row.ID, row.Topic, row.Key, row.EventID, row.Attempts, row.Reason})
			}
			if err = printTable(out, printed); err == nil && int64(len(rows)) < report.Parked {
				_, err = fmt.Fprintf(out, "%d more: --limit\n", report.Parked-int64(len(rows)))
			}
			return err
		})
	}
	return command
}

func outboxRetry() *cobra.Command {
	command := &cobra.Command{
		Use:   "retry ROW... | --all",
		Short: "Let parked rows be published again, after what was wrong is corrected",
		Long: `Lets parked rows wait to be published again. Later rows of their keys may be
published already: a consumer then sees them out of order. Discard a row where that
would do harm.`,
		Example: "  hapax outbox retry 1234 1240\n  hapax outbox retry --all --json",
	}
	load, asJSON := configFlag(command), jsonFlag(command, "one JSON object")
	all := command.Flags().Bool("all", false, "retry every parked row")
	command.RunE = func(command *cobra.Command, arguments []string) error {
		ids, err := rowNumbers(arguments)
		if err != nil {
			return err
		}
		if *all == (len(ids) > 0) {
			return errors.New("retry: expected numbers of parked rows (hapax outbox status lists them), or --all")
		}
		return withOutbox(command.Context(), load, func(table *relay.Table) error {
			n, err := table.Retry(command.Context(), ids...)
			return reportRows(command, *asJSON, "retried", n, len(ids), err)
		})
	}
	return command
}

func outboxDiscard() *cobra.Command {
	command := &cobra.Command{
		Use:     "discard ROW...",
		Short:   "Delete parked rows: their events are never published",
		Example: "  hapax outbox discard 1234",
		Args:    cobra.MinimumNArgs(1),
	}
	load, asJSON := configFlag(command), jsonFlag(command, "one JSON object")
	command.RunE = func(command *cobra.Command, arguments []string) error {
		ids, err := rowNumbers(arguments)
		if err != nil {
			return err
		}
		return withOutbox(command.Context(), load, func(table *relay.Table) error {
			n, err := table.Discard(command.Context(), ids...)
			return reportRows(command, *asJSON, "discarded", n, len(ids), err)
		})
	}
	return command
}

// rowNumbers reads numbers of rows; one that is named twice is one row.
func rowNumbers(arguments []string) ([]int64, error) {
	ids := make([]int64, len(arguments))
	for i, argument := range arguments {
		var err error
		if ids[i], err = strconv.ParseInt(argument, 10, 64); err != nil {
			return nil, fmt.Errorf("row %q: expected a number, as hapax outbox status lists them", argument)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// reportRows says what was done. Rows that were named and are not parked make it
// an error, for scripts.
func reportRows(command *cobra.Command, asJSON bool, verb string, n, named int, err error) error {
	if err != nil {
		return err
	}
	if asJSON {
		err = printJSON(command.OutOrStdout(), map[string]int{verb: n})
	} else {
		_, err = fmt.Fprintf(command.OutOrStdout(), "%s %d\n", verb, n)
	}
	if n < named {
		return errors.Join(err, fmt.Errorf("%d of the %d rows are not parked: hapax outbox status lists those that are", named-n, named))
	}
	return err
}
