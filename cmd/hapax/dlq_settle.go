package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework"
)

// requeued is one line of hapax dlq requeue --json.
type requeued struct {
	EventID   string              `json:"event_id"`
	Topic     string              `json:"topic"`
	Committed framework.Committed `json:"committed"`
}

func dlqRequeueCommand() *cobra.Command {
	var filter letterFilter
	command := &cobra.Command{
		Use:   "requeue TOPIC [EVENT-ID]...",
		Short: "Put dead letters back on the topic they came from",
		Long: `Put the events of dead letters back on the topic they came from, each under the
identity it had, and remove the letters. For each it says what had committed: the
handler's mark is looked up before. A handler that has a mark drops the event; one
without processes it. An event that several handlers of its topic could not process
has a letter of each, and is put back once, for all of them.

Exit status: 0, 1 something failed (letters put back until then are removed),
2 an event ID was not found.`,
		Example: "  hapax dlq requeue orders order-17\n  hapax dlq requeue orders --reason \"retries exhausted\"\n  hapax dlq requeue orders --all --json",
		Args:    cobra.MinimumNArgs(1),
	}
	load, asJSON := configFlag(command), jsonFlag(command, "one JSON object a line")
	filter.flags(command)
	command.Flags().BoolVar(&filter.all, "all", false, "all letters of the topic")
	command.RunE = func(command *cobra.Command, arguments []string) error {
		filter.ids = arguments[1:]
		if err := filter.chosen(); err != nil {
			return err
		}
		// A reader of the output that leaves, such as head, ends it between two letters, and
		// not the process between putting one back and removing it.
		signal.Ignore(syscall.SIGPIPE)
		return operate(command, load, func(ctx context.Context, operator *framework.Operator) error {
			out, encoder := command.OutOrStdout(), json.NewEncoder(command.OutOrStdout())
			var printing error
			progress := newProgress(command.ErrOrStderr(), "letters put back")
			states, done := map[string]int{}, putBack{}
			err := operator.Letters(ctx, arguments[0], func(letter *framework.Letter) (bool, error) {
				if printing != nil || !filter.matches(letter) {
					return false, printing
				}
				committed, err := done.requeue(ctx, operator, letter)
				if err != nil {
					return false, err
				}
				states[committed.State]++
				progress.step()
				switch {
				case *asJSON:
					printing = encoder.Encode(requeued{letter.EventID, letter.Topic, committed})
				case !filter.all:
					_, printing = fmt.Fprintf(printable{out}, "%s → %s: %s\n", oneLine(letter.EventID), letter.Topic, committed.Why)
				}
				return true, nil // it is put back, printed or not
			})
			progress.done()
			if !*asJSON && printing == nil {
				_, printing = fmt.Fprintf(out, "%d put back; committed before: %s\n", progress.count, inWords(states))
			}
			if printing != nil && !errors.Is(err, printing) { // the last letter's
				err = errors.Join(err, printing)
			}
			return filter.missing(err)
		})
	}
	return command
}

// putBack are the messages that one call has put back. Every handler of a topic that
// could not process a message has written a letter of it, and every one gets what is
// put back: a copy for each letter would be as many letters for each handler that still
// fails, and more every time.
type putBack map[original]bool

// original is the message that letters were made of. The time of an earlier replay tells
// a letter that was written since this call put its event back, which is another message.
type original struct{ topic, eventID, uuid, replayed, payload string }

// requeue puts the event of a letter back, unless that was done for another letter of
// the same message.
func (p putBack) requeue(ctx context.Context, operator *framework.Operator, letter *framework.Letter) (framework.Committed, error) {
	msg := letter.Message()
	digest := sha256.Sum256(msg.Payload)
	of := original{letter.Topic, letter.EventID, msg.UUID, msg.Metadata.Get(dedup.MetaReplayedAt), string(digest[:])}
	if p[of] {
		return operator.Committed(ctx, letter), nil
	}
	committed, err := operator.Requeue(ctx, letter)
	if err == nil && of.eventID != "" && of.uuid != "" { // without both nobody can tell
		p[of] = true
	}
	return committed, err
}

// inWords counts what had committed: "no 3, yes 1".
func inWords(states map[string]int) string {
	var words []string
	for _, state := range slices.Sorted(maps.Keys(states)) {
		words = append(words, fmt.Sprintf("%s %d", state, states[state]))
	}
	if len(words) == 0 {
		return "nothing was put back"
	}
	return strings.Join(words, ", ")
}

func dlqPurgeCommand() *cobra.Command {
	var filter letterFilter
	var yes bool
	command := &cobra.Command{
		Use:   "purge TOPIC [EVENT-ID]...",
		Short: "Remove dead letters for good",
		Long: `Remove dead letters for good: their events are never processed. It counts them and
asks first; --yes answers, and is needed where nobody can.

Exit status: 0, 1 something failed or the answer was no, 2 an event ID was not found.`,
		Example: "  hapax dlq purge orders order-17 --yes\n  hapax dlq purge orders --reason undecodable --yes",
		Args:    cobra.MinimumNArgs(1),
	}
	load, asJSON := configFlag(command), jsonFlag(command, "one JSON object")
	filter.flags(command)
	command.Flags().BoolVar(&filter.all, "all", false, "all letters of the topic")
	command.Flags().BoolVar(&yes, "yes", false, "do not ask")
	command.RunE = func(command *cobra.Command, arguments []string) error {
		filter.ids = arguments[1:]
		if err := filter.chosen(); err != nil {
			return err
		}
		if !yes && !isTerminal(command.InOrStdin()) {
			return errors.New("letters are removed for good, and there is no terminal to ask on: use --yes")
		}
		return operate(command, load, func(ctx context.Context, operator *framework.Operator) error {
			topic, _ := operator.LetterTopic(arguments[0])
			if !yes {
				matching := 0
				err := operator.Letters(ctx, arguments[0], func(letter *framework.Letter) (bool, error) {
					if filter.matches(letter) {
						matching++
					}
					return false, nil
				})
				if err != nil {
					return err
				}
				if matching > 0 && !confirm(command, fmt.Sprintf("Remove %d letters of %s for good? [y/N] ", matching, topic)) {
					return errors.New("nothing was removed")
				}
			}
			progress := newProgress(command.ErrOrStderr(), "letters removed")
			err := operator.Letters(ctx, arguments[0], func(letter *framework.Letter) (bool, error) {
				matches := filter.matches(letter)
				if matches {
					progress.step()
				}
				return matches, nil
			})
			progress.done()
			if *asJSON {
				err = errors.Join(err, printJSON(command.OutOrStdout(), map[string]any{"topic": topic, "removed": progress.count}))
			} else {
				_, printing := fmt.Fprintf(command.OutOrStdout(), "%d letters of %s removed\n", progress.count, topic)
				err = errors.Join(err, printing)
			}
			return filter.missing(err)
		})
	}
	return command
}

// confirm reads a yes from a person.
func confirm(command *cobra.Command, question string) bool {
	if _, err := fmt.Fprint(command.ErrOrStderr(), question); err != nil {
		return false
	}
	answer, _ := bufio.NewReader(input(command)).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}
