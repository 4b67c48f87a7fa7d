package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
)

// Three copies of an event take effect once, and whoever looks on sees all three
// and disturbs nobody.
func TestPublishAndTail(t *testing.T) {
	onEveryBroker(t, func(t *testing.T, broker, file string) {
		topic := uniqueTopic()
		shipped := make(chan string, 10)
		serve(t, file, topic, func(_ context.Context, order map[string]any) error {
			shipped <- order["id"].(string)
			return nil
		})
		tail := func(arguments ...string) (string, error) {
			return run(t, append([]string{"tail", topic, "-f", file, "--json"}, arguments...)...)
		}
		seen, failed := make(chan string, 1), make(chan error, 1)
		if !strings.HasPrefix(broker, "sqs") {
			go func() { // on RabbitMQ it sees only what comes after it
				text, err := tail("--limit", "4", "--from", "1m")
				seen <- text
				failed <- err
			}()
		}
		publish := func(arguments ...string) string {
			text, err := run(t, append([]string{"publish", topic, "-f", file}, arguments...)...)
			require.NoError(t, err)
			return text
		}
		if broker == "rabbitmq" {
			waitForTail(t, func(probe string) { publish("--id", probe, "--data", `{"id":"`+probe+`"}`) }, seen, tail, shipped)
			return
		}
		if broker == "sqlite" || broker == "kafka" || broker == "redis" {
			missing(t, file)
		}
		require.Equal(t, "one → "+topic+", 3 copies\n", publish("--data", `{"id":"one"}`, "--id", "one", "--key", "k", "--duplicate", "3", "--meta", "source=test"))
		require.Equal(t, "one", <-shipped)
		publish("--data", `{"id":"two"}`, "--id", "two", "--key", "k")
		select { // the same key: the copies of one are through by now
		case id := <-shipped:
			require.Equal(t, "two", id)
		case <-time.After(30 * time.Second):
			require.Fail(t, "two was not processed")
		}
		require.Empty(t, shipped)
		if strings.HasPrefix(broker, "sqs") {
			_, err := tail()
			require.ErrorContains(t, err, "SQS shows a message only by handing it out")
			return
		}
		text := <-seen
		require.NoError(t, <-failed)
		var ids []string
		decoder := json.NewDecoder(strings.NewReader(text))
		for decoder.More() {
			var line tailed
			require.NoError(t, decoder.Decode(&line))
			require.Equal(t, "k", line.Key)
			require.Contains(t, line.Position, topic)
			ids = append(ids, line.EventID)
			if line.EventID == "one" {
				require.Equal(t, "test", line.Metadata["source"])
				require.Equal(t, `{"id":"one"}`, line.Payload)
			}
		}
		require.Equal(t, []string{"one", "one", "one", "two"}, ids)
		text, err := tail("--from", "start", "--no-follow")
		require.NoError(t, err)
		require.Equal(t, 4, lines(text))
		text, err = tail("--no-follow")
		require.NoError(t, err)
		require.Empty(t, text, "from now there is nothing")
	})
}

// missing looks at a topic that is not there: no topic is not an empty one, and who
// waits for it says so.
func missing(t *testing.T, file string) {
	t.Helper()
	topic := uniqueTopic()
	_, err := run(t, "tail", topic, "-f", file, "--no-follow")
	require.ErrorContains(t, err, `"`+topic+`": there is no such topic`)
	require.Equal(t, 1, exitStatus(err))

	var out bytes.Buffer
	said, ended := make(chan string, 10), make(chan error, 1)
	errs := writerFunc(func(text []byte) (int, error) { said <- string(text); return len(text), nil })
	go func() {
		ended <- runTo(t, strings.NewReader(""), &out, errs, "tail", topic, "-f", file, "--from", "start", "--limit", "1")
	}()
	require.Equal(t, "topic "+topic+" does not exist yet: waiting for it\n", <-said)
	_, err = run(t, "publish", topic, "-f", file, "--data", "here it is")
	require.NoError(t, err)
	require.NoError(t, <-ended)
	require.Contains(t, out.String(), "here it is")
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(text []byte) (int, error) { return w(text) }

// waitForTail publishes until the follower, whose queue nobody can see, has four.
func waitForTail(t *testing.T, publish func(string), seen chan string, tail func(...string) (string, error), shipped chan string) {
	t.Helper()
	for number := range 1000 {
		publish(strings.Repeat("x", number+1))
		<-shipped
		select {
		case text := <-seen:
			require.Equal(t, 4, lines(text))
			_, err := tail("--no-follow")
			require.ErrorContains(t, err, "RabbitMQ keeps messages in the queues of groups only")
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
	require.Fail(t, "the follower saw no four messages")
}

func TestPublishSources(t *testing.T) {
	directory := t.TempDir()
	file := writeConfig(t, "service: fulfilment\nsqlite: {path: \""+filepath.Join(directory, "hapax.db")+"\"}\n")
	orders := filepath.Join(directory, "orders.ndjson")
	require.NoError(t, os.WriteFile(orders, []byte("{\"n\":1}\n\n{\"n\":3}\n"), 0o600))

	text, err := run(t, "publish", "orders", "-f", file, "--lines", "--payload", orders, "--id", "import", "--json")
	require.NoError(t, err)
	require.Equal(t, "{\"event_id\":\"import-1\",\"topic\":\"orders\",\"copies\":1}\n{\"event_id\":\"import-3\",\"topic\":\"orders\",\"copies\":1}\n", text)
	again, err := run(t, "publish", "orders", "-f", file, "--lines", "--payload", orders, "--id", "import", "--json")
	require.NoError(t, err)
	require.Equal(t, text, again, "a repeated import has the same IDs")

	text, err = runWith(t, strings.NewReader("from a pipe"), "publish", "orders", "-f", file)
	require.NoError(t, err)
	require.Contains(t, text, " → orders\n")

	for _, from := range []string{"start", "1d"} {
		text, err = run(t, "tail", "orders", "-f", file, "--from", from, "--no-follow")
		require.NoError(t, err)
		require.Equal(t, 5, lines(text))
		require.Contains(t, text, "from a pipe")
	}

	for message, arguments := range map[string][]string{
		"expected name=value":       {"--data", "x", "--meta", "name"},
		"Hapax's own":               {"--data", "x", "--meta", "hapax_event_id=x"},
		"expected at least 1":       {"--data", "x", "--duplicate", "0"},
		"--id is empty":             {"--data", "x", "--id", ""},
		"no such file":              {"--payload", filepath.Join(directory, "missing")},
		"none of the others can be": {"--data", "x", "--payload", "y"},
		"standard input was empty":  {"--key", "k"},
	} {
		_, err := run(t, append([]string{"publish", "orders", "-f", file}, arguments...)...)
		require.ErrorContains(t, err, message)
	}
	_, err = run(t, "tail", "orders", "-f", file, "--from", "yesterday")
	require.ErrorContains(t, err, "expected now, start")
}

// An event is shown under the ID that it takes effect once by, and that dlq knows it by.
func TestTailKnowsTheIdentityOfTheConfig(t *testing.T) {
	file, topic := writeConfig(t, "service: fulfilment\ndedup: {id: {pointer: /id, ignore_uuid: true}}\n"), uniqueTopic()
	cfg, err := config.Load(file, nil)
	require.NoError(t, err)
	operator, err := framework.NewOperator(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer operator.Close()
	require.NoError(t, operator.Publish(topic, message.NewMessage("uuid", []byte(`{"id":"one"}`))))
	text, err := run(t, "tail", topic, "-f", file, "--from", "start", "--no-follow", "--json")
	require.NoError(t, err, text)
	var line tailed
	require.NoError(t, json.Unmarshal([]byte(text), &line), text)
	require.Equal(t, "one", line.EventID)
}

// A line that could not be read to its end is no event.
func TestPublishSendsNoHalfLine(t *testing.T) {
	file, topic := writeConfig(t, "service: fulfilment\n"), uniqueTopic()
	broken := io.MultiReader(strings.NewReader("one\nhalf of tw"), iotest.ErrReader(errors.New("input/output error")))
	text, err := runWith(t, broken, "publish", topic, "-f", file, "--lines", "--id", "e")
	require.EqualError(t, err, "read payload: input/output error")
	require.Equal(t, "e-1 → "+topic+"\n", text)
}

// A signal ends it also while it waits for what may never come.
func TestPublishIsInterruptedWhileItWaitsForInput(t *testing.T) {
	file, topic := writeConfig(t, "service: fulfilment\n"), uniqueTopic()
	input, typed := io.Pipe()
	defer typed.Close()
	ctx, interrupt := context.WithCancelCause(t.Context())
	said, ended := make(chan string, 10), make(chan error, 1)
	command := root()
	command.SetIn(input)
	command.SetOut(writerFunc(func(text []byte) (int, error) { said <- string(text); return len(text), nil }))
	command.SetErr(io.Discard)
	command.SetArgs([]string{"publish", topic, "-f", file, "--lines", "--id", "e"})
	go func() { ended <- command.ExecuteContext(ctx) }()
	_, err := typed.Write([]byte("one\n"))
	require.NoError(t, err)
	require.Equal(t, "e-1 → "+topic+"\n", <-said)
	interrupt(errors.New("a signal"))
	select {
	case err := <-ended:
		require.EqualError(t, err, "read payload: a signal")
	case <-time.After(30 * time.Second):
		require.Fail(t, "it still waits for input")
	}
}

// Wherever it is run, a command means the files beside the config.
func TestPublishFromAnotherFolder(t *testing.T) {
	file := writeConfig(t, "service: fulfilment\n")
	elsewhere := t.TempDir()
	t.Chdir(elsewhere)
	_, err := run(t, "publish", "orders", "-f", file, "--data", "{}")
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(filepath.Dir(file), "hapax.db"))
	require.NoFileExists(t, filepath.Join(elsewhere, "hapax.db"))
}
