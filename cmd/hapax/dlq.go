package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
)

// dlqCommand looks after dead letters.
func dlqCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "dlq",
		Short: "List, show, put back and remove dead letters",
		Long: `Look after the events that could not be processed. The dead letters of the topic
orders are in the topic orders.dead, on every broker, or in that of its dead_letter in
hapax.yaml; all commands take either name. Where topics share one, the name of a topic
means its own letters, and that of the letters' topic those of all.

On Kafka, Redis and the embedded broker looking disturbs nobody. On RabbitMQ and SQS
a letter can only be looked at by taking it: it is given back at the end, and the
server counts that as a delivery.`,
	}
	command.AddCommand(dlqListCommand(), dlqShowCommand(), dlqRequeueCommand(), dlqPurgeCommand())
	return command
}

// letterFilter selects letters.
type letterFilter struct {
	ids             []string
	all             bool
	reason, handler string
	found           map[string]bool
}

func (f *letterFilter) flags(command *cobra.Command) {
	command.Flags().StringVar(&f.reason, "reason", "", "only letters with this reason, such as \"retries exhausted\"")
	command.Flags().StringVar(&f.handler, "handler", "", "only letters of this handler")
}

func (f *letterFilter) matches(letter *framework.Letter) bool {
	if f.reason != "" && letter.Reason != f.reason || f.handler != "" && letter.Handler != f.handler {
		return false
	}
	if len(f.ids) == 0 {
		return true
	}
	matches := slices.Contains(f.ids, letter.EventID)
	if matches {
		if f.found == nil {
			f.found = map[string]bool{}
		}
		f.found[letter.EventID] = true
	}
	return matches
}

// chosen insists on a selection: what cannot be undone is not done to all letters
// because an argument was forgotten.
func (f *letterFilter) chosen() error {
	if len(f.ids) == 0 && !f.all && f.reason == "" && f.handler == "" {
		return errors.New("nothing is selected: name event IDs, or use --all, --reason or --handler")
	}
	if len(f.ids) > 0 && f.all {
		return errors.New("event IDs and --all contradict each other: use one of them")
	}
	if slices.Contains(f.ids, "") { // a variable that is not set, rather than an event without an ID
		return errors.New("an event ID is empty: name it, or choose letters of events without one by --reason")
	}
	return nil
}

// missing reports the event IDs that no letter has. Only who went through all of them
// can tell: after an error it is that alone.
func (f *letterFilter) missing(err error) error {
	if err != nil {
		return err
	}
	var missing []string
	for _, id := range f.ids {
		if !f.found[id] {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		return exitError{fmt.Errorf("no dead letter%s has the event ID %s", f.narrowed(), strings.Join(missing, ", ")), exitFound}
	}
	return nil
}

// narrowed says what letters were asked for, beside their IDs.
func (f *letterFilter) narrowed() (text string) {
	if f.handler != "" {
		text = " of handler " + f.handler
	}
	if f.reason != "" {
		text += " with reason " + f.reason
	}
	return text
}

// operate runs a command's work with a connected operator.
func operate(command *cobra.Command, load func() (*config.Config, error), work func(context.Context, *framework.Operator) error) (err error) {
	cfg, err := load()
	if err != nil {
		return err
	}
	operator, err := framework.NewOperator(command.Context(), cfg, quietLogger(command))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, operator.Close()) }()
	return work(command.Context(), operator)
}

// errEnough ends a walk early.
var errEnough = errors.New("enough")

func dlqListCommand() *cobra.Command {
	var filter letterFilter
	var limit int
	command := &cobra.Command{
		Use:   "list TOPIC",
		Short: "List the dead letters of a topic",
		Long: `List the dead letters of a topic, oldest first: on Kafka those of each partition, on SQS as
they come.

Exit status: 0 also when there are none, 1 they could not be read.`,
		Example: "  hapax dlq list orders\n  hapax dlq list orders --reason conflict --json",
		Args:    cobra.ExactArgs(1),
	}
	load, asJSON := configFlag(command), jsonFlag(command, "one JSON object a line")
	filter.flags(command)
	command.Flags().IntVar(&limit, "limit", 100, "show at most this many; 0: all")
	command.RunE = func(command *cobra.Command, arguments []string) error {
		if limit < 0 {
			return fmt.Errorf("--limit is %d, expected at least 0", limit)
		}
		return operate(command, load, func(ctx context.Context, operator *framework.Operator) error {
			printed := newTable("event ID", "handler", "reason", "attempts", "at", "error")
			printed.SetColumnConfigs([]table.ColumnConfig{column(1, maxCell), column(2, maxCell), column(3, maxCell), column(4, maxCell), column(5, maxCell), column(6, 60)})
			encoder := json.NewEncoder(command.OutOrStdout())
			shown := 0
			err := operator.Letters(ctx, arguments[0], func(letter *framework.Letter) (bool, error) {
				if !filter.matches(letter) {
					return false, nil
				}
				if limit > 0 && shown == limit {
					return false, errEnough
				}
				shown++
				if *asJSON {
					return false, encoder.Encode(letter)
				}
				printed.AppendRow(table.Row{letter.EventID, letter.Handler, letter.Reason, letter.Attempts, letter.At, firstLine(letter.Error)})
				return false, nil
			})
			more := errors.Is(err, errEnough)
			if more {
				err = nil
			}
			if err != nil || *asJSON {
				return err
			}
			topic, _ := operator.LetterTopic(arguments[0])
			if shown == 0 {
				of := ""
				if topic != arguments[0] && operator.SharesLetters(arguments[0]) {
					of = " of " + arguments[0]
				}
				_, err = fmt.Fprintf(command.OutOrStdout(), "%s has no dead letters%s%s\n", topic, of, filter.narrowed())
				return err
			}
			if err = printTable(command.OutOrStdout(), printed); err == nil && more {
				_, err = fmt.Fprintf(command.OutOrStdout(), "the first %d of %s; there are more: --limit 0 shows all\n", shown, topic)
			}
			return err
		})
	}
	return command
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// shownLetter is a letter with all there is to know about it. A payload that is no UTF-8
// is in Binary, as base64.
type shownLetter struct {
	*framework.Letter
	Committed framework.Committed `json:"committed"`
	Metadata  map[string]string   `json:"metadata"`
	Payload   string              `json:"payload"`
	Binary    []byte              `json:"binary,omitempty"`
}

func showLetter(letter *framework.Letter, committed framework.Committed) shownLetter {
	shown := shownLetter{Letter: letter, Committed: committed, Metadata: letter.Message().Metadata}
	shown.Payload, shown.Binary = textOrBinary(letter.Message().Payload)
	return shown
}

func dlqShowCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "show TOPIC EVENT-ID",
		Short: "Show a dead letter: why, what had committed, its payload",
		Long: `Show a dead letter: why it could not be processed, what had committed of it (its
mark is looked up), metadata, stack and payload; with --json one that is no text is in
"binary", as base64.

Exit status: 0, 1 it could not be read, 2 there is no such letter.`,
		Example: "  hapax dlq show orders order-17",
		Args:    cobra.ExactArgs(2),
	}
	load, asJSON := configFlag(command), jsonFlag(command, "one JSON object a letter")
	command.RunE = func(command *cobra.Command, arguments []string) error {
		filter := letterFilter{ids: arguments[1:]}
		return operate(command, load, func(ctx context.Context, operator *framework.Operator) error {
			err := operator.Letters(ctx, arguments[0], func(letter *framework.Letter) (bool, error) {
				if !filter.matches(letter) {
					return false, nil
				}
				shown := showLetter(letter, operator.Committed(ctx, letter))
				if *asJSON {
					return false, printJSON(command.OutOrStdout(), shown)
				}
				return false, printLetter(command, shown)
			})
			return filter.missing(err)
		})
	}
	return command
}

func printLetter(command *cobra.Command, letter shownLetter) error {
	out := printable{command.OutOrStdout()}
	for _, line := range [][2]string{
		{"event ID", letter.EventID}, {"topic", letter.Topic}, {"position", letter.Position},
		{"handler", strings.Trim(letter.Service+"."+letter.Handler, ".")}, {"reason", letter.Reason}, {"attempts", letter.Attempts},
		{"at", letter.At}, {"committed", letter.Committed.State + ": " + letter.Committed.Why}, {"error", letter.Error}, {"stack", letter.Stack},
	} {
		if line[1] != "" {
			if _, err := fmt.Fprintf(out, "%-10s %s\n", line[0], strings.ReplaceAll(line[1], "\n", "\n           ")); err != nil {
				return err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(letter.Metadata)) {
		if !strings.HasPrefix(name, "hapax_dead_") {
			if _, err := fmt.Fprintf(out, "metadata   %s=%s\n", name, letter.Metadata[name]); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintf(out, "payload    %s\n\n", payloadLine(letter.Payload, letter.Binary))
	return err
}
