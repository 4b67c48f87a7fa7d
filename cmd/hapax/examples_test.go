package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/internal/live"
	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/schema"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// smaller are flags that are added to what would take minutes.
var smaller = map[string]string{
	"hapax demo":  "--events 300",
	"hapax bench": "--rounds 1 --messages 300",
}

// Every line of every command's example works, word for word: a shell runs it, in a
// folder with a service on the embedded broker that has seen some events.
func TestEveryExampleRuns(t *testing.T) {
	bin := t.TempDir()
	output, err := exec.Command("go", "build", "-o", filepath.Join(bin, "hapax"), ".").CombinedOutput()
	require.NoError(t, err, string(output))
	prepared, withOutbox := prepareFolder(t), prepareOutbox(t)

	for path, lines := range examples(root()) {
		for _, line := range lines {
			t.Run(line, func(t *testing.T) {
				folder := t.TempDir()
				source := prepared
				switch words := strings.Fields(line); {
				case slices.ContainsFunc([]string{"outbox", "relay", "migrate"}, func(name string) bool { return slices.Contains(words, name) }):
					source = withOutbox
				case slices.Contains(words, "duplicates"): // it asks a running service, where hapax.yaml says
					file := writeConfig(t, fmt.Sprintf("service: fulfilment\nsqlite: {path: %q}\n", filepath.Join(t.TempDir(), "hapax.db")))
					serve(t, file, "orders", func(context.Context, map[string]any) error { return nil })
				}
				require.NoError(t, os.CopyFS(folder, os.DirFS(source)))
				for name, flags := range smaller {
					if strings.Contains(line, name) {
						line += " " + flags
					}
				}
				// It runs until it is stopped.
				line = strings.Replace(line, "hapax relay", "timeout --foreground --preserve-status --signal INT 2 hapax relay", 1)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				command := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", line)
				command.Dir = folder
				command.Env = append(live.Without("HAPAX_"), "PATH="+bin+":"+os.Getenv("PATH"))
				output, err := command.CombinedOutput()
				require.NoError(t, err, "%s: %s\n%s", path, line, output)
				require.NotContains(t, string(output), "\x1b", "colour, and no terminal")
			})
		}
	}
}

// examples are the lines of every command's example, by the command's path.
func examples(command *cobra.Command) map[string][]string {
	found := map[string][]string{}
	if !command.Hidden {
		for line := range strings.Lines(command.Example) {
			found[command.CommandPath()] = append(found[command.CommandPath()], strings.TrimSpace(line))
		}
		for _, child := range command.Commands() {
			if child.Name() != "help" {
				maps.Copy(found, examples(child))
			}
		}
	}
	return found
}

// Every command has an example, of itself.
func TestEveryCommandHasAnExample(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(command *cobra.Command) {
		if command.Hidden || command.Name() == "help" {
			return
		}
		require.True(t, slices.ContainsFunc(examples(command)[command.CommandPath()], func(line string) bool {
			return strings.Contains(line, command.CommandPath())
		}), "%s has no example", command.CommandPath())
		for _, child := range command.Commands() {
			walk(child)
		}
	}
	walk(root())
}

// Every command says what its exit status means.
func TestEveryCommandSaysItsExitStatus(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(command *cobra.Command) {
		if command.Hidden || command.Name() == "help" {
			return
		}
		if !command.HasSubCommands() || !command.HasParent() {
			text, err := run(t, append(strings.Fields(command.CommandPath())[1:], "--help")...)
			require.NoError(t, err)
			require.Regexp(t, `(?i)exit status( is 1 if|: 0)`, text, command.CommandPath())
		}
		for _, child := range command.Commands() {
			walk(child)
		}
	}
	walk(root())
}

// Every command that prints a result has --json.
func TestEveryResultIsToBeHadAsJSON(t *testing.T) {
	// They print a document, or run until they are stopped.
	documents := []string{"hapax config schema", "hapax config example", "hapax migrate sql", "hapax relay"}
	var walk func(*cobra.Command)
	walk = func(command *cobra.Command) {
		path := command.CommandPath()
		if command.Hidden || command.Name() == "help" || command.Name() == "completion" || slices.Contains(documents, path) {
			return
		}
		if !command.HasSubCommands() {
			require.NotNil(t, command.Flags().Lookup("json"), path)
		}
		for _, child := range command.Commands() {
			walk(child)
		}
	}
	walk(root())
}

// prepareFolder makes what the examples speak of: a service on the embedded broker,
// events on the topic orders, and dead letters.
func prepareFolder(t *testing.T) string {
	folder := t.TempDir()
	settings := "service: fulfilment\nbroker: sqlite\nretry: {max_attempts: 2, initial_interval: 1ms, max_interval: 1ms}\n"
	require.NoError(t, os.WriteFile(filepath.Join(folder, config.FileName), []byte(settings), 0o600))
	var lines strings.Builder
	for i := range 3 {
		fmt.Fprintf(&lines, `{"ID":"imported-%d","Item":"cup"}`+"\n", i)
	}
	require.NoError(t, os.WriteFile(filepath.Join(folder, "orders.ndjson"), []byte(lines.String()), 0o600))

	cfg, err := config.Load(filepath.Join(folder, config.FileName), []string{"HAPAX_ADMIN_ENABLED=false", "HAPAX_SQLITE_PATH=" + filepath.Join(folder, "hapax.db")})
	require.NoError(t, err)
	service, err := framework.New(t.Context(), cfg, framework.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	handled := make(chan string, 100)
	framework.Handle(service, "orders", func(_ context.Context, order struct{ ID string }) error {
		handled <- order.ID
		if order.ID == "17" {
			return errors.New("the warehouse does not answer")
		}
		return nil
	})
	send := func(id, payload string) {
		event := message.NewMessage("", []byte(payload))
		event.Metadata.Set(dedup.MetaEventID, "order-"+id)
		event.Metadata.Set(dedup.MetaKey, "a customer") // one after the other
		require.NoError(t, service.Publisher().Publish("orders", event))
	}
	send("17", `{"ID":"17"}`)                  // its retries end in a dead letter
	send("1", `{"ID":"1"}`)                    // the same twice
	send("1", `{"ID":"1"}`)                    //
	send("1", `{"ID":"1","Item":"other"}`)     // a conflict
	send("2", `{"ID":`)                        // undecodable
	send("last", `{"ID":"last","Item":"cup"}`) // everything before it is done when it is

	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- service.Run(ctx) }()
	deadline := time.After(30 * time.Second)
	for last := ""; last != "last"; {
		select {
		case last = <-handled:
		case err := <-ran:
			require.FailNow(t, "the service ended by itself", "%v", err)
		case <-deadline:
			require.FailNow(t, "the service is not done")
		}
	}
	stop()
	require.NoError(t, <-ran)
	return folder
}

// prepareOutbox makes a service with a database, and rows 1234 and 1240 parked in its
// outbox.
func prepareOutbox(t *testing.T) string {
	folder := t.TempDir()
	settings := "service: fulfilment\nsql: {dsn: \"${DATABASE_URL:-file:shop.db}\"}\nadmin: {address: \"127.0.0.1:0\"}\n"
	require.NoError(t, os.MkdirAll(filepath.Join(folder, "db", "migrations"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(folder, config.FileName), []byte(settings), 0o600))
	db, dialect, err := sqldb.Open(t.Context(), filepath.Join(folder, "shop.db"))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	tables, err := schema.New(db, dialect, schema.Names{})
	require.NoError(t, err)
	_, err = tables.Up(t.Context())
	require.NoError(t, err)
	events, err := outbox.NewPublisher(t.Context(), db, outbox.Config{Dialect: dialect})
	require.NoError(t, err)
	for _, id := range []string{"1234", "1240"} {
		require.NoError(t, events.Publish("orders", message.NewMessage("order-"+id, []byte("{}"))))
		_, err = db.ExecContext(t.Context(), `UPDATE hapax_outbox SET id = ?, state = 2, reason = 'too large' WHERE uuid = ?`, id, "order-"+id)
		require.NoError(t, err)
	}
	return folder
}
