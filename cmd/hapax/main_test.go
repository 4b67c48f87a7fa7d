package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
)

// run executes the command line in this process.
func run(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	return runWith(t, strings.NewReader(""), arguments...)
}

func runWith(t *testing.T, input io.Reader, arguments ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := runTo(t, input, &out, &out, arguments...)
	return out.String(), err
}

// runTo executes the command line with standard output and error apart.
func runTo(t *testing.T, input io.Reader, out, errs io.Writer, arguments ...string) error {
	t.Helper()
	command := root()
	command.SetOut(out)
	command.SetErr(errs)
	command.SetIn(input)
	command.SetArgs(arguments)
	return execute(t.Context(), command)
}

func TestRules(t *testing.T) {
	text, err := run(t, "rules")
	require.NoError(t, err)
	for _, rule := range dedup.Rules {
		require.Contains(t, text, rule.Broker)
		require.Contains(t, text, rule.Strategy)
	}
	text, err = run(t, "rules", "--json")
	require.NoError(t, err)
	var rules []dedup.Rule
	require.NoError(t, json.Unmarshal([]byte(text), &rules))
	require.Equal(t, append(append([]dedup.Rule{}, dedup.Rules...), dedup.SQLRule), rules)
}

func TestConfig(t *testing.T) {
	t.Chdir(t.TempDir())
	write := func(text string) { require.NoError(t, os.WriteFile("hapax.yaml", []byte(text), 0o600)) }

	write("service: fulfilment\nsql: {dsn: \"postgres://shop:hunter2@127.0.0.1/shop\"}\n")
	text, err := run(t, "config", "show")
	require.NoError(t, err)
	require.NotContains(t, text, "hunter2")
	require.Contains(t, text, "postgres://shop:")
	text, err = run(t, "config", "check")
	require.NoError(t, err)
	require.Equal(t, "ok: service fulfilment on broker sqlite\n", text)

	write("service: fulfilment\nbrokr: sqlite\n")
	_, err = run(t, "config", "check")
	require.EqualError(t, err, `hapax.yaml:2:1: unknown key "brokr": did you mean "broker"?`)

	text, err = run(t, "config", "schema")
	require.NoError(t, err)
	require.True(t, json.Valid([]byte(text)))
	text, err = run(t, "config", "example")
	require.NoError(t, err)
	write(text)
	_, err = run(t, "config", "check")
	require.NoError(t, err)
}

// Every command says what it does and shows how.
func TestHelp(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(command *cobra.Command) {
		for _, child := range command.Commands() {
			if child.Name() == "completion" || child.Name() == "help" {
				continue
			}
			require.NotEmpty(t, child.Short, child.CommandPath())
			if child.Runnable() && !child.Hidden {
				require.Contains(t, child.Example, "hapax "+strings.TrimPrefix(child.CommandPath(), "hapax "), child.CommandPath())
			}
			walk(child)
		}
	}
	walk(root())
}

func TestAMissingArgumentIsNamed(t *testing.T) {
	for line, says := range map[string]string{
		"tail":                 "tail: TOPIC is missing: for example hapax tail orders --from start --no-follow",
		"publish":              `publish: TOPIC is missing: for example hapax publish orders --data '{"ID":"order-17","Item":"kettle"}' --id order-17 --duplicate 3`,
		"audit --by id":        "audit: TABLE is missing: for example hapax audit charges --by order_id",
		"dlq list":             "dlq list: TOPIC is missing: for example hapax dlq list orders",
		"dlq show orders":      "dlq show: EVENT-ID is missing: for example hapax dlq show orders order-17",
		"dlq requeue":          "dlq requeue: TOPIC is missing: for example hapax dlq requeue orders order-17",
		"outbox discard":       "outbox discard: ROW is missing: for example hapax outbox discard 1234",
		"dlq list orders more": "accepts 1 arg(s), received 2",
		"config check more":    `unknown command "more" for "hapax config check"`,
	} {
		_, err := run(t, strings.Fields(line)...)
		require.EqualError(t, err, says)
	}
	// As with a variable that is not set.
	file := writeConfig(t, embedded(t, ""))
	for _, line := range [][]string{{"dlq", "list", ""}, {"dlq", "purge", "", "--all", "--yes"}, {"publish", "", "--data", "{}"}, {"tail", "", "--no-follow"}} {
		_, err := run(t, append(line, "-f", file)...)
		require.ErrorContains(t, err, "TOPIC is missing: for example hapax ", line)
	}
}

// The demo as a user runs it: real children, real kills, one JSON object, and an
// exit status that means what the help says.
func TestDemo(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "hapax")
	build := exec.Command("go", "build", "-o", binary, ".")
	output, err := build.CombinedOutput()
	require.NoError(t, err, string(output))

	command := exec.CommandContext(t.Context(), binary, "demo", "--events", "800", "--seed", "7", "--json")
	var errors bytes.Buffer
	command.Stderr = &errors
	output, err = command.Output()
	require.NoError(t, err, errors.String())
	var object map[string]any
	require.NoError(t, json.Unmarshal(output, &object))
	require.Equal(t, "sqlite", object["broker"])
	require.EqualValues(t, 7, object["seed"])
	require.EqualValues(t, 800, object["events"])
	require.Contains(t, object, "seconds")
	lane := func(name string) map[string]any { return object[name].(map[string]any) }
	for _, name := range []string{"plain", "hapax"} {
		require.Len(t, lane(name), 6)
		require.EqualValues(t, 0, lane(name)["lost"], name)
		require.Greater(t, lane(name)["kills"], 2.0, name)
		require.Greater(t, lane(name)["duplicate_deliveries"], 0.0, name)
	}
	require.Greater(t, lane("plain")["duplicate_effects"], 0.0)
	require.Greater(t, lane("plain")["duplicate_outputs"], 0.0)
	require.EqualValues(t, 0, lane("hapax")["duplicate_effects"])
	require.EqualValues(t, 0, lane("hapax")["duplicate_outputs"])

	bad := exec.CommandContext(t.Context(), binary, "demo", "--broker", "carrier-pigeon")
	output, err = bad.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(output), `hapax: demo has no broker "carrier-pigeon": expected one of sqlite`)
}

// A result that could not be written is no success: a list of letters in a file on a full
// disk may be all that is kept of them.
func TestTablesThatCannotBeWritten(t *testing.T) {
	full := errors.New("no space left on device")
	letters, topic := withLetters(t, 1)
	database := writeConfig(t, embedded(t, fmt.Sprintf("sql: {dsn: %q}\n", "file:"+filepath.Join(t.TempDir(), "own.db"))))
	for _, arguments := range [][]string{
		{"rules"}, {"dlq", "list", topic, "-f", letters}, {"migrate", "status", "-f", database},
		{"migrate", "up", "-f", database}, {"migrate", "up", "-f", database}, {"migrate", "status", "-f", database},
	} {
		err := runTo(t, strings.NewReader(""), writerFunc(func([]byte) (int, error) { return 0, full }), io.Discard, arguments...)
		require.ErrorIs(t, err, full, arguments)
	}
}

// A limit below zero is a mistake, and not "no limit".
func TestLimitsBelowZero(t *testing.T) {
	file := writeConfig(t, embedded(t, ""))
	for _, arguments := range [][]string{{"tail", "orders", "--no-follow"}, {"dlq", "list", "orders"}} {
		_, err := run(t, append(arguments, "-f", file, "--limit", "-1")...)
		require.EqualError(t, err, "--limit is -1, expected at least 0", arguments)
	}
}
