package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/spf13/cobra"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework"
)

// publication is what hapax publish sends.
type publication struct {
	data, file, id, key string
	meta                []string
	lines               bool
	duplicate           int
	unsaid              bool // no flag says where the payload is
}

// sent is one line of hapax publish --json.
type sent struct {
	EventID string `json:"event_id"`
	Topic   string `json:"topic"`
	Copies  int    `json:"copies"`
}

// publishCommand sends events to a topic.
func publishCommand() *cobra.Command {
	var p publication
	command := &cobra.Command{
		Use:   "publish TOPIC",
		Short: "Publish events to a topic",
		Long: `Publish an event to a topic of the config's broker: its payload is that of --data,
else the file of --payload, else standard input. With --lines each line is an event
(NDJSON).

An event without --id gets a random one, which is printed; with --lines and --id,
the line's number is appended to the ID ("import-1", "import-2"), so that a repeated
run publishes copies and not new events.

--duplicate 3 sends each event three times under one ID: it must take effect once.

Exit status: 0 the broker has stored every copy, 1 it may not have; events that were
printed are stored.`,
		Example: `  hapax publish orders --data '{"ID":"order-17","Item":"kettle"}' --id order-17 --duplicate 3
  echo '{"ID":"order-18","Item":"cup"}' | hapax publish orders --key customer-4 --meta source=import
  hapax publish orders --lines --payload orders.ndjson --id import --json`,
		Args: cobra.ExactArgs(1),
	}
	load, asJSON := configFlag(command), jsonFlag(command, "one JSON object an event")
	flags := command.Flags()
	flags.StringVar(&p.data, "data", "", "the payload")
	flags.StringVar(&p.file, "payload", "", "the file of the payload; -: standard input")
	flags.BoolVar(&p.lines, "lines", false, "each line is an event; empty lines are passed over")
	flags.StringVar(&p.id, "id", "", "the event ID")
	flags.StringVar(&p.key, "key", "", "the ordering key")
	flags.StringArrayVar(&p.meta, "meta", nil, "metadata, name=value; may be repeated")
	flags.IntVar(&p.duplicate, "duplicate", 1, "how many copies to send of each event")
	command.MarkFlagsMutuallyExclusive("data", "payload")
	command.RunE = func(command *cobra.Command, arguments []string) (err error) {
		if p.duplicate < 1 {
			return fmt.Errorf("--duplicate is %d, expected at least 1", p.duplicate)
		}
		if command.Flags().Changed("id") && p.id == "" { // such as from a variable that is not set
			return errors.New("--id is empty: name the event's ID, or leave the flag out for a random one")
		}
		metadata, err := p.metadata()
		if err != nil {
			return err
		}
		p.unsaid = !command.Flags().Changed("data") && p.file == ""
		source, err := p.open(command)
		if err != nil {
			return err
		}
		defer source.Close()
		return operate(command, load, func(ctx context.Context, operator *framework.Operator) error {
			out := command.OutOrStdout()
			progress := newProgress(command.ErrOrStderr(), "events published")
			defer progress.done()
			return p.events(source, func(id string, payload []byte) error {
				if err := ctx.Err(); err != nil {
					return context.Cause(ctx)
				}
				if err := p.send(operator, arguments[0], id, payload, metadata); err != nil {
					return err
				}
				progress.step()
				if *asJSON {
					return json.NewEncoder(out).Encode(sent{id, arguments[0], p.duplicate})
				}
				_, err := fmt.Fprintf(out, "%s → %s%s\n", oneLine(id), arguments[0], p.copies())
				return err
			})
		})
	}
	return command
}

func (p *publication) copies() string {
	if p.duplicate == 1 {
		return ""
	}
	return fmt.Sprintf(", %d copies", p.duplicate)
}

func (p *publication) metadata() (message.Metadata, error) {
	metadata := message.Metadata{}
	for _, pair := range p.meta {
		name, value, found := strings.Cut(pair, "=")
		switch {
		case !found || name == "":
			return nil, fmt.Errorf("--meta is %q, expected name=value", pair)
		case strings.HasPrefix(name, "hapax_"):
			return nil, fmt.Errorf("--meta %q: names that begin with hapax_ are Hapax's own: use --id and --key", name)
		}
		metadata.Set(name, value)
	}
	return metadata, nil
}

func (p *publication) open(command *cobra.Command) (io.ReadCloser, error) {
	switch {
	case p.unsaid && isTerminal(command.InOrStdin()):
		return nil, errors.New("there is no payload: use --data, --payload, or pipe it in")
	case p.unsaid || p.file == "-":
		return io.NopCloser(input(command)), nil
	case p.file == "":
		return io.NopCloser(strings.NewReader(p.data)), nil
	}
	file, err := os.Open(p.file)
	if err != nil {
		return nil, fmt.Errorf("open payload: %w", err)
	}
	return file, nil
}

// events cuts the source into events, and gives each its ID.
func (p *publication) events(source io.Reader, each func(id string, payload []byte) error) error {
	id := func(number int) string {
		switch {
		case p.id == "":
			return watermill.NewUUID()
		case p.lines:
			return fmt.Sprintf("%s-%d", p.id, number)
		}
		return p.id
	}
	if !p.lines {
		payload, err := io.ReadAll(source)
		if err != nil {
			return fmt.Errorf("read payload: %w", err)
		}
		if len(payload) == 0 && p.unsaid { // it is closed, or what writes to it has failed
			return errors.New("standard input was empty: pipe the payload in, or use --data '' for an event without one")
		}
		return each(id(1), payload)
	}
	// A Scanner hands out what it has before it tells why there is no more.
	var broken error
	scanner := bufio.NewScanner(readerFunc(func(into []byte) (n int, err error) {
		if n, err = source.Read(into); err != io.EOF { //nolint:errorlint // as Scanner has it
			broken = err
		}
		return n, err
	}))
	scanner.Buffer(nil, maxLine)
	for number := 1; scanner.Scan(); number++ { // a line's number stays its own when empty ones are passed over
		if line := bytes.TrimSpace(scanner.Bytes()); len(line) > 0 && broken == nil {
			if err := each(id(number), bytes.Clone(line)); err != nil {
				return fmt.Errorf("line %d: %w", number, err)
			}
		}
	}
	switch err := scanner.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("read payload: %w (a line may have %d MiB)", err, maxLine>>20)
	case err != nil:
		return fmt.Errorf("read payload: %w", err)
	}
	return nil
}

const maxLine = 64 << 20

// send publishes the copies of an event, one after the other: a producer that
// retries does it like this.
func (p *publication) send(operator *framework.Operator, topic, id string, payload []byte, metadata message.Metadata) error {
	for range p.duplicate {
		msg := message.NewMessage(watermill.NewUUID(), payload)
		for name, value := range metadata {
			msg.Metadata.Set(name, value)
		}
		msg.Metadata.Set(dedup.MetaEventID, id)
		if p.key != "" {
			msg.Metadata.Set(dedup.MetaKey, p.key)
		}
		if err := operator.Publish(topic, msg); err != nil {
			return err
		}
	}
	return nil
}
