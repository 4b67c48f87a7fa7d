package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/spf13/cobra"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
)

// tailed is one line of hapax tail --json. A payload that is no UTF-8 is in Binary,
// as base64.
type tailed struct {
	EventID  string            `json:"event_id"`
	Key      string            `json:"key,omitempty"`
	Position string            `json:"position"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Payload  string            `json:"payload,omitempty"`
	Binary   []byte            `json:"binary,omitempty"`
}

// tailCommand shows the messages of a topic.
func tailCommand() *cobra.Command {
	var from string
	var limit int
	var stay bool
	command := &cobra.Command{
		Use:   "tail TOPIC",
		Short: "Show the messages of a topic as they come",
		Long: `Show the messages of a topic as they come, copies included. No consumer group
notices, and nothing is taken away.

--from says where to begin: now (the default), start, a duration ago (10m, 7d) or a time
(2026-01-31T08:00:00Z). RabbitMQ keeps no messages for later readers: there it is
always now. SQS shows messages only by taking them, so it cannot be tailed.

It ends with --limit messages, with --no-follow at the present end, or with an
interrupt. A topic that does not exist yet is waited for, which standard error says;
with --no-follow it is an error.

Exit status: 0, 1 the topic cannot be read.`,
		Example: "  hapax tail orders --from start --no-follow\n  hapax tail orders --from 10m --limit 5 --json",
		Args:    cobra.ExactArgs(1),
	}
	load, asJSON := configFlag(command), jsonFlag(command, "one JSON object a message")
	command.Flags().StringVar(&from, "from", "now", "now, start, a duration ago, or a time (RFC 3339)")
	command.Flags().IntVar(&limit, "limit", 0, "end after this many messages; 0: no limit")
	command.Flags().BoolVar(&stay, "no-follow", false, "end where the topic ends now")
	command.RunE = func(command *cobra.Command, arguments []string) error {
		if limit < 0 {
			return fmt.Errorf("--limit is %d, expected at least 0", limit)
		}
		since, err := beginning(from, time.Now())
		if err != nil {
			return err
		}
		return operate(command, load, func(ctx context.Context, operator *framework.Operator) error {
			encoder, shown := json.NewEncoder(command.OutOrStdout()), 0
			encoder.SetEscapeHTML(false)
			waits := func() { command.PrintErrf("topic %s does not exist yet: waiting for it\n", arguments[0]) }
			err := operator.Browse(ctx, arguments[0], adapters.Browse{From: since, Follow: !stay, Waits: waits}, func(msg *message.Message) error {
				line, shownErr := readTailed(operator.EventID(msg), msg), error(nil)
				if *asJSON {
					shownErr = encoder.Encode(line)
				} else {
					shownErr = line.print(command)
				}
				if shown++; shownErr == nil && shown == limit {
					return errEnough
				}
				return shownErr
			})
			if err == errEnough { //nolint:errorlint // it is handed through as it is
				return nil
			}
			return err
		})
	}
	return command
}

// beginning reads --from.
func beginning(from string, now time.Time) (time.Time, error) {
	switch from {
	case "now":
		return now, nil
	case "start":
		return time.Time{}, nil
	}
	var ago config.Duration
	if ago.UnmarshalText([]byte(from)) == nil {
		return now.Add(-ago.Std()), nil
	}
	at, err := time.Parse(time.RFC3339, from)
	if err != nil {
		return at, fmt.Errorf("--from is %q, expected now, start, a duration such as 10m or 7d, or a time such as %s", from, now.UTC().Format(time.RFC3339))
	}
	return at, nil
}

func readTailed(id string, msg *message.Message) tailed {
	line := tailed{EventID: id, Key: msg.Metadata.Get(dedup.MetaKey), Metadata: msg.Metadata}
	if delivery := adapters.DeliveryFrom(msg.Context()); delivery != nil {
		line.Position = delivery.Position
	}
	line.Payload, line.Binary = textOrBinary(msg.Payload)
	return line
}

// textOrBinary is a payload as the one or the other: JSON can hold no other bytes.
func textOrBinary(payload []byte) (text string, binary []byte) {
	if utf8.Valid(payload) {
		return string(payload), nil
	}
	return "", payload
}

// payloadLine is a payload for people.
func payloadLine(text string, binary []byte) string {
	if binary != nil {
		return fmt.Sprintf("(%d bytes, not text)", len(binary))
	}
	return text
}

func (l tailed) print(command *cobra.Command) error {
	var more strings.Builder
	for _, name := range slices.Sorted(maps.Keys(l.Metadata)) {
		if name != dedup.MetaEventID {
			fmt.Fprintf(&more, " %s=%s", name, firstLine(l.Metadata[name]))
		}
	}
	_, err := fmt.Fprintf(printable{command.OutOrStdout()}, "%s  %s %s\n", oneLine(l.EventID), payloadLine(l.Payload, l.Binary), more.String())
	return err
}
