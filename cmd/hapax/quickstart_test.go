package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/live"
)

// quickstart is the README's section, from a scaffold to one effect.
const quickstart = "## From nothing to one effect"

// The README's commands, word for word, with the output that it shows: on the
// embedded broker, and then on Kafka. Only the place of the new service differs, and
// where Kafka is.
func TestTheReadmesQuickstart(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(readme), "\n"+quickstart+"\n")
	require.True(t, found, "README.md has no section %q", quickstart)
	section, _, _ = strings.Cut(section, "\n## ")
	embedded, kafka, found := strings.Cut(section, "\nOn Kafka")
	require.True(t, found)
	folder := filepath.Join(t.TempDir(), "shop")
	root, err := filepath.Abs("../..")
	require.NoError(t, err)

	// The working directory and the variables, from command to command.
	state := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(state, "cwd"), []byte(root), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(state, "env"), nil, 0o600))

	t.Run("sqlite", func(t *testing.T) { follow(t, embedded, state, folder, live.Without("HAPAX_"), strings.NewReplacer()) })
	t.Run("kafka", func(t *testing.T) {
		place := live.New(t, "kafka", "orders", "shipments")
		environ := live.Without("HAPAX_")
		for _, variable := range place.Environ { // the README's own address for health checks
			if !strings.HasPrefix(variable, "HAPAX_ADMIN_") {
				environ = append(environ, variable)
			}
		}
		address := regexp.MustCompile(`HAPAX_KAFKA_BROKERS=(\S+)`).FindStringSubmatch(strings.Join(environ, " "))[1]
		follow(t, kafka, state, folder, environ, strings.NewReplacer("127.0.0.1:29092", address))
	})
}

var moment = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`)

// untimed masks what differs from run to run.
func untimed(text string) string { return moment.ReplaceAllString(text, "TIME") }

var fenced = regexp.MustCompile("(?s)```(sh|text)\n(.*?)```")

// follow runs the section's commands, in the order of the text, as one who pastes them.
// A block of output belongs to the last command before it, and is what that says at
// once: only a look at the metrics is repeated, whose counts may come later.
func follow(t *testing.T, section, state, folder string, environ []string, replace *strings.Replacer) {
	var last, said string
	shell := func(command string) string {
		script := "cd \"$(cat " + state + "/cwd)\"; source " + state + "/env; " + command + "\npwd > " + state + "/cwd; export -p > " + state + "/env"
		run := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
		run.Env = environ
		var wrong strings.Builder
		run.Stderr = &wrong
		output, err := run.Output()
		require.NoError(t, err, "%s\n%s%s", command, output, wrong.String())
		return string(output)
	}
	for _, block := range fenced.FindAllStringSubmatch(section, -1) {
		if block[1] == "text" {
			want, got := untimed(block[2]), untimed(said)
			for deadline := time.Now().Add(30 * time.Second); got != want && strings.HasPrefix(last, "curl ") && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
				got = untimed(shell(last))
			}
			require.Equal(t, want, got, last)
			continue
		}
		for line := range strings.Lines(block[2]) {
			line = replace.Replace(strings.ReplaceAll(strings.TrimSpace(line), "../shop", folder))
			switch {
			case line == "make servers ONLY=kafka": // live.New has seen to it
			case line == "make run": // in a terminal of its own
				shell("make build")
				working, err := os.ReadFile(filepath.Join(state, "cwd"))
				require.NoError(t, err)
				where := strings.TrimSpace(string(working))
				live.Start(t, filepath.Join(where, "bin", "shop"), where, environ) // until the end of the test
			default:
				last, said = line, shell(line)
			}
		}
	}
}
