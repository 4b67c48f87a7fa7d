package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/handlers"
)

// An event that two handlers of a topic could not process has two letters. Put back
// twice, it would have four if they fail again, then eight.
func TestAnEventOfTwoLettersIsPutBackOnce(t *testing.T) {
	onEveryBroker(t, func(t *testing.T, broker, file string) {
		if strings.HasPrefix(broker, "sqs") {
			return // a queue gives each message to one handler
		}
		topic := uniqueTopic()
		var mended atomic.Bool
		shipped, audited := make(chan string, 10), make(chan string, 10)
		handler := func(done chan string) func(context.Context, map[string]any) error {
			return func(_ context.Context, order map[string]any) error {
				if !mended.Load() {
					return handlers.Permanent(errors.New("no such item"))
				}
				done <- order["id"].(string)
				return nil
			}
		}
		serve(t, file, topic, handler(shipped))
		serve(t, file, topic, handler(audited), framework.Name(topic+".audit")) // marks of other runs are on the same server
		for _, id := range []string{"one", "two"} {
			_, err := run(t, "publish", topic, "-f", file, "--id", id, "--key", "k", "--data", `{"id":"`+id+`"}`)
			require.NoError(t, err)
		}
		letters := func() int {
			text, err := run(t, "dlq", "list", topic, "-f", file, "--json")
			require.NoError(t, err, text)
			return lines(text)
		}
		requeue := func() {
			require.Eventually(t, func() bool { return letters() == 4 }, 30*time.Second, 100*time.Millisecond)
			text, err := run(t, "dlq", "requeue", topic, "--all", "-f", file, "--json")
			require.NoError(t, err, text)
			require.Equal(t, 4, lines(text), "each letter says what its handler had committed")
		}
		requeue()
		requeue() // they have failed again, and have as many letters
		require.Eventually(t, func() bool { return letters() == 4 }, 30*time.Second, 100*time.Millisecond)
		if broker != "rabbitmq" {
			text, err := run(t, "tail", topic, "-f", file, "--from", "start", "--no-follow", "--json")
			require.NoError(t, err, text)
			require.Equal(t, 2+2+2, lines(text), "published, and put back once each time")
		}
		mended.Store(true)
		requeue()
		for _, done := range []chan string{shipped, audited} {
			require.ElementsMatch(t, []string{"one", "two"}, []string{<-done, <-done})
		}
		require.Zero(t, letters())
	})
}

// What had committed is looked up: an event whose ID comes with another payload is
// a letter although, and because, its ID has a mark.
func TestRequeueSaysWhatHadCommitted(t *testing.T) {
	onEveryBroker(t, func(t *testing.T, broker, file string) {
		topic := uniqueTopic()
		shipped := make(chan string, 10)
		stop := serve(t, file, topic, func(_ context.Context, order map[string]any) error {
			shipped <- order["id"].(string)
			return nil
		})
		send := func(data string) {
			_, err := run(t, "publish", topic, "-f", file, "--id", "order", "--key", data, "--data", data)
			require.NoError(t, err)
		}
		send(`{"id":"first"}`)
		require.Equal(t, "first", <-shipped)
		if broker == "sqs-fifo" {
			stop()
			return // SQS itself drops another payload under an ID for five minutes: no letter
		}
		send(`{"id":"second"}`)
		var text string
		require.Eventually(t, func() bool {
			var err error
			text, err = run(t, "dlq", "show", topic, "order", "-f", file)
			return err == nil
		}, 30*time.Second, 100*time.Millisecond)
		require.Contains(t, text, "conflict: ")
		require.Contains(t, text, "a mark of its ID with another payload")
		require.Contains(t, text, `{"id":"second"}`)
	})
}

// Who did not see all letters cannot tell that one is not there: what was interrupted has
// failed, with a status of its own.
func TestAnInterruptedRequeueDoesNotSayWhatIsMissing(t *testing.T) {
	file, topic := withLetters(t, 300)
	ctx, interrupt := context.WithCancel(t.Context())
	command := root()
	command.SetOut(writerFunc(func(text []byte) (int, error) { interrupt(); return len(text), nil }))
	command.SetErr(io.Discard)
	command.SetArgs([]string{"dlq", "requeue", topic, "e-1", "e-300", "-f", file})
	err := command.ExecuteContext(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.NotContains(t, err.Error(), "no dead letter")
	require.Equal(t, 1, exitStatus(err))
}

// Interrupted after any letter, what was put back until then is removed. Kafka notes
// removed letters a hundred at a time.
func TestAnInterruptedRequeueRemovesWhatItPutBack(t *testing.T) {
	onEveryBroker(t, func(t *testing.T, broker, file string) {
		topic := uniqueTopic()
		serve(t, file, topic, func(context.Context, map[string]any) error { return nil })
		text, err := runWith(t, strings.NewReader(strings.Repeat("{}\n", 120)), "publish", topic+".dead", "-f", file, "--lines", "--id", "e")
		require.NoError(t, err, text)
		ctx, interrupt := context.WithCancel(t.Context())
		back := 0
		command := root()
		command.SetOut(writerFunc(func(text []byte) (int, error) {
			if back++; back == 100 {
				interrupt()
			}
			return len(text), nil
		}))
		command.SetErr(io.Discard)
		command.SetArgs([]string{"dlq", "requeue", topic, "--all", "--json", "-f", file})
		_ = command.ExecuteContext(ctx) // how far it comes is the broker's affair
		require.GreaterOrEqual(t, back, 100)
		var left, told bytes.Buffer
		require.NoError(t, runTo(t, strings.NewReader(""), &left, &told, "dlq", "list", topic, "--limit", "0", "-f", file, "--json"))
		require.Equal(t, 120-back, lines(left.String()), told.String())
	})
}

// What was put back is no letter any more, also when nobody could be told: the disk is
// full, or whoever read the output has left.
func TestALetterThatWasPutBackIsRemoved(t *testing.T) {
	backAndLeft := func(t *testing.T, file, topic string) (back int, left int) {
		text, err := run(t, "tail", topic, "-f", file, "--from", "start", "--no-follow")
		require.NoError(t, err, text)
		return lines(text), len(strings.Fields(letterIDs(t, file, topic)))
	}
	t.Run("disk full", func(t *testing.T) {
		file, topic := withLetters(t, 3)
		full := errors.New("no space left on device")
		err := runTo(t, strings.NewReader(""), writerFunc(func([]byte) (int, error) { return 0, full }), io.Discard, "dlq", "requeue", topic, "e-1", "e-2", "-f", file)
		require.EqualError(t, err, full.Error())
		back, left := backAndLeft(t, file, topic)
		require.Equal(t, 1, back)
		require.Equal(t, 2, left)
	})
	t.Run("reader gone", func(t *testing.T) {
		file, topic := withLetters(t, 50)
		binary := filepath.Join(t.TempDir(), "hapax")
		output, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput()
		require.NoError(t, err, string(output))
		read, write, err := os.Pipe()
		require.NoError(t, err)
		require.NoError(t, read.Close())
		command := exec.CommandContext(t.Context(), binary, "dlq", "requeue", topic, "--all", "--json", "-f", file)
		command.Stdout = write
		var exit *exec.ExitError
		require.ErrorAs(t, command.Run(), &exit)
		require.NoError(t, write.Close())
		require.Equal(t, 1, exit.ExitCode())
		back, left := backAndLeft(t, file, topic)
		require.Equal(t, 1, back)
		require.Equal(t, 49, left)
	})
}

// withLetters makes letters of events e-1, e-2 and so on, on the embedded broker.
func withLetters(t *testing.T, n int) (file, topic string) {
	t.Helper()
	file, topic = writeConfig(t, "service: fulfilment\n"), uniqueTopic()
	text, err := runWith(t, strings.NewReader(strings.Repeat("{}\n", n)), "publish", topic+".dead", "-f", file, "--lines", "--id", "e")
	require.NoError(t, err, text)
	return file, topic
}

// A variable that is not set is no choice of the events without an ID: those are not
// removed because it was meant to hold one.
func TestAnEmptyEventIDChoosesNoLetter(t *testing.T) {
	file, topic := writeConfig(t, embedded(t, "dedup: {id: {ignore_uuid: true}}\n")), uniqueTopic()
	cfg, err := config.Load(file, nil)
	require.NoError(t, err)
	operator, err := framework.NewOperator(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, operator.Close()) })
	require.NoError(t, operator.Publish(topic+".dead", message.NewMessage("", []byte("{}"))))
	for _, line := range []string{"purge --yes", "requeue"} {
		_, err := run(t, append([]string{"dlq"}, append(strings.Fields(line), topic, "", "-f", file)...)...)
		require.EqualError(t, err, "an event ID is empty: name it, or choose letters of events without one by --reason", line)
	}
	text, err := run(t, "dlq", "show", topic, "", "-f", file)
	require.NoError(t, err, text)
	require.Contains(t, text, "payload    {}")
}

// letterIDs are the event IDs of a topic's letters, in order.
func letterIDs(t *testing.T, file, topic string) string {
	t.Helper()
	text, err := run(t, "dlq", "list", topic, "-f", file, "--json")
	require.NoError(t, err, text)
	var ids []string
	for decoder := json.NewDecoder(strings.NewReader(text)); decoder.More(); {
		var letter framework.Letter
		require.NoError(t, decoder.Decode(&letter), text)
		ids = append(ids, letter.EventID)
	}
	return strings.Join(ids, " ")
}
