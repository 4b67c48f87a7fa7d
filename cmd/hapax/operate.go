package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/hapax-go/hapax/framework/config"
)

// configFlag gives a command the flag for its hapax.yaml, and returns its loader.
func configFlag(command *cobra.Command) func() (*config.Config, error) {
	var file string
	command.Flags().StringVarP(&file, "file", "f", "", "the config to read (default: $HAPAX_CONFIG, else hapax.yaml)")
	return func() (*config.Config, error) { return config.Load(file, os.Environ()) }
}

// jsonFlag gives a command the flag --json.
func jsonFlag(command *cobra.Command, what string) *bool {
	return command.Flags().Bool("json", false, "print "+what)
}

// quietLogger passes on what the packages warn of: standard output is the command's.
func quietLogger(command *cobra.Command) *slog.Logger {
	return slog.New(slog.NewTextHandler(command.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// printJSON writes one value, indented.
func printJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// printable writes for people what anybody may have sent: control characters, which
// their terminal would take for commands, as \x1b. Lines and tabs stay.
type printable struct{ io.Writer }

// Write implements io.Writer.
func (p printable) Write(text []byte) (int, error) {
	shown := make([]byte, 0, len(text))
	for rest := text; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		broken := r == utf8.RuneError && size == 1
		plain := r == '\n' || r == '\t' || bytes.HasPrefix(rest, []byte("\r\n")) || !unicode.IsControl(r)
		if plain && !broken {
			shown = append(shown, rest[:size]...)
		} else {
			for _, b := range rest[:size] {
				shown = fmt.Appendf(shown, `\x%02x`, b)
			}
		}
		rest = rest[size:]
	}
	if _, err := p.Writer.Write(shown); err != nil {
		return 0, err
	}
	return len(text), nil
}

// newTable returns a table that is printed by printTable. What is longer than maxCell goes
// on in the next line: one long ID would make the whole table unreadable.
func newTable(header ...any) table.Writer {
	printed := table.NewWriter()
	columns := make([]table.ColumnConfig, len(header))
	for i := range columns {
		columns[i] = column(i+1, maxCell)
	}
	printed.SetColumnConfigs(columns)
	printed.SetStyle(table.StyleLight)
	printed.Style().Format.Header = text.FormatDefault
	printed.AppendHeader(table.Row(header))
	return printed
}

// column is how a column of a table is printed. An ID with a newline in it stays in its row.
func column(number, width int) table.ColumnConfig {
	return table.ColumnConfig{Number: number, WidthMax: width, Transformer: func(value any) string { return oneLine(fmt.Sprint(value)) }}
}

// oneLine is a text as printable shows it, with its newlines and tabs like other control
// characters.
func oneLine(text string) string {
	var shown strings.Builder
	_, _ = printable{&shown}.Write([]byte(text)) // a Builder takes everything
	return strings.NewReplacer("\r", `\x0d`, "\n", `\x0a`, "\t", `\x09`).Replace(shown.String())
}

// maxCell is in characters. An ID of usual length stays in one line, to be copied.
const maxCell = 100

// printTable prints a table; its own way to do that keeps errors to itself.
func printTable(out io.Writer, printed table.Writer) error {
	_, err := fmt.Fprintln(printable{out}, printed.Render())
	return err
}

// isTerminal reports whether a stream is a person's: only they are asked, and shown
// progress.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && isatty.IsTerminal(file.Fd())
}

// input is a command's standard input, until a signal ends the command: from a pipe or a
// terminal there may never come anything more. A read that waits then is left behind.
func input(command *cobra.Command) io.Reader {
	return readerFunc(func(into []byte) (int, error) {
		type read struct {
			data []byte
			err  error
		}
		done := make(chan read, 1)
		go func() {
			own := make([]byte, len(into))
			n, err := command.InOrStdin().Read(own)
			done <- read{own[:n], err}
		}()
		select {
		case got := <-done:
			return copy(into, got.data), got.err
		case <-command.Context().Done():
			return 0, context.Cause(command.Context())
		}
	})
}

type readerFunc func([]byte) (int, error)

func (r readerFunc) Read(into []byte) (int, error) { return r(into) }

// exitError is an error with an exit status of its own.
type exitError struct {
	error
	status int
}

func (e exitError) Unwrap() error { return e.error }

// exitFound is the status of a command that worked and found what it looks for.
const exitFound = 2

// exitStatus is the status that an error ends the process with.
func exitStatus(err error) int {
	var own exitError
	if errors.As(err, &own) {
		return own.status
	}
	return 1
}

// handlerTopics reads arguments of the form TOPIC or HANDLER=TOPIC. Without any, the
// handlers that the config names stand for them, each with the topic of its name. Topics
// that it names do not: a service may only publish to them.
func handlerTopics(cfg *config.Config, arguments []string) (map[string]string, error) {
	handlers := map[string]string{}
	for _, argument := range arguments {
		handler, topic, named := strings.Cut(argument, "=")
		if !named {
			topic = handler
		}
		if handler == "" || topic == "" {
			return nil, fmt.Errorf("argument %q: expected TOPIC or HANDLER=TOPIC", argument)
		}
		if other := handlers[handler]; other != "" && other != topic {
			return nil, fmt.Errorf("argument %q: handler %s reads %s already: a handler has one topic", argument, handler, other)
		}
		handlers[handler] = topic
	}
	if len(arguments) == 0 {
		for handler := range cfg.Handlers {
			handlers[handler] = handler
		}
	}
	return handlers, nil
}
