package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/hapax-go/hapax/framework"
)

// duplicatesCommand reports duplicates.
func duplicatesCommand() *cobra.Command {
	var urls []string
	var hours, limit int
	command := &cobra.Command{
		Use:   "duplicates",
		Short: "Show recent duplicates, their number per event type and hour, and why",
		Long: `Show the copies of events that took no effect: the recent ones, how many there were
per event type and hour, and why there was a copy, as far as that is known. It asks
running instances of the service at their admin address: that of the config, or each
--url, and adds them up.

A copy counts whether it was stopped before the handler, or ran beside another that
committed first (the metric hapax_events_total tells them apart: duplicate, lost_race).

What it can know: the cause is told from the copy itself. "redelivery": the broker
says it handed the message out before. "operator replay" and "relay resend": it is
marked so. "lease expiry": the instance lost its lease while it was at it.
"producer retry" is what remains: another message under the same event ID. Kafka
does not count deliveries, so a copy after a rebalance counts there as a producer's.

What it cannot: an instance keeps the record in memory. It counts since it was
started, for at most 7 days, remembers its last 1000 duplicates, and forgets all of
it when it ends; for longer, use the metric hapax_duplicates_total. A copy that the
broker itself dropped (SQS FIFO within five minutes) is seen by nobody.

Exit status: 0 also when there are none, 1 an instance could not be asked.`,
		Example: "  hapax duplicates --hours 6\n  hapax duplicates --url http://127.0.0.1:8086 --json",
		Args:    cobra.NoArgs,
	}
	load, asJSON := configFlag(command), jsonFlag(command, "one JSON object")
	command.Flags().StringArrayVar(&urls, "url", nil, "the admin address of an instance; may be repeated (default: admin.address of the config)")
	command.Flags().IntVar(&hours, "hours", 24, "look so far back, the present hour included")
	command.Flags().IntVar(&limit, "limit", 20, "show so many recent ones of each instance")
	command.RunE = func(command *cobra.Command, _ []string) error {
		if hours < 1 {
			return fmt.Errorf("--hours is %d, expected at least 1", hours)
		}
		if limit < 0 {
			return fmt.Errorf("--limit is %d, expected at least 0", limit)
		}
		if len(urls) == 0 {
			cfg, err := load()
			if err != nil {
				return err
			}
			if !cfg.Admin.Enabled {
				return fmt.Errorf("%s: admin.enabled is false, so the service does not tell its duplicates: enable it, or use --url", cfg.Where("admin.enabled"))
			}
			urls = []string{"http://" + cfg.Admin.Address}
		}
		var reports []framework.DuplicateReport
		for _, address := range urls {
			report, err := askDuplicates(command.Context(), address, hours, limit)
			if err != nil {
				return err
			}
			reports = append(reports, report)
		}
		report := merge(reports)
		if *asJSON {
			return printJSON(command.OutOrStdout(), report)
		}
		return printDuplicates(command.OutOrStdout(), report, hours)
	}
	return command
}

func askDuplicates(ctx context.Context, address string, hours, limit int) (report framework.DuplicateReport, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if !strings.Contains(address, "://") { // as admin.address has it
		address = "http://" + address
	}
	query := url.Values{"hours": {strconv.Itoa(hours)}, "limit": {strconv.Itoa(limit)}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(address, "/")+"/duplicates?"+query.Encode(), nil)
	if err != nil {
		return report, fmt.Errorf("ask %s: %w", address, err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return report, fmt.Errorf("ask for duplicates: %w: is the service running, and this its admin address? name another with --url", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return report, fmt.Errorf("ask %s for duplicates: it answered %s: is this the admin address of a service?", address, response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(&report); err != nil {
		return report, errors.Join(fmt.Errorf("ask %s for duplicates: its answer is not a report: %w", address, err))
	}
	return report, nil
}

// merge adds up the reports of instances.
func merge(reports []framework.DuplicateReport) (all framework.DuplicateReport) {
	type kind struct {
		hour                     int64
		eventType, handler, name string
	}
	counts := map[kind]*framework.DuplicateCount{}
	all.Recent, all.Hours = []framework.Duplicate{}, []framework.DuplicateCount{}
	for i, report := range reports {
		if i == 0 || report.Since.Before(all.Since) {
			all.Since = report.Since
		}
		all.Service = report.Service
		all.Recent = append(all.Recent, report.Recent...)
		for _, count := range report.Hours {
			key := kind{count.Hour.Unix(), count.Type, count.Handler, string(count.Cause)}
			if counts[key] == nil {
				counts[key] = &framework.DuplicateCount{Hour: count.Hour, Type: count.Type, Handler: count.Handler, Cause: count.Cause}
			}
			counts[key].Count += count.Count
		}
	}
	for _, count := range counts {
		all.Hours = append(all.Hours, *count)
	}
	slices.SortStableFunc(all.Recent, func(a, b framework.Duplicate) int { return b.At.Compare(a.At) })
	slices.SortFunc(all.Hours, func(a, b framework.DuplicateCount) int {
		return cmp.Or(a.Hour.Compare(b.Hour), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Handler, b.Handler), cmp.Compare(a.Cause, b.Cause))
	})
	return all
}

func printDuplicates(out io.Writer, report framework.DuplicateReport, hours int) error {
	if len(report.Hours) == 0 {
		_, err := fmt.Fprintf(out, "%s: no duplicates in the last %d hours (counted since %s)\n", report.Service, hours, report.Since.Format(time.RFC3339))
		return err
	}
	counts := newTable("hour (UTC)", "event type", "handler", "cause", "duplicates")
	total := 0
	for _, count := range report.Hours {
		counts.AppendRow(table.Row{count.Hour.Format("2006-01-02 15:04"), count.Type, count.Handler, count.Cause, count.Count})
		total += count.Count
	}
	if err := printTable(out, counts); err != nil {
		return err
	}
	recent := newTable("at", "event ID", "event type", "handler", "cause", "position")
	for _, d := range report.Recent {
		recent.AppendRow(table.Row{d.At.Format(time.RFC3339), d.EventID, d.Type, d.Handler, d.Cause, d.Position})
	}
	if len(report.Recent) > 0 {
		if err := printTable(out, recent); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "%s: %d duplicates in the last %d hours (counted since %s); none took effect\n", report.Service, total, hours, report.Since.Format(time.RFC3339))
	return err
}
