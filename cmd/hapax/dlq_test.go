package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/handlers"
)

// An operator's round: events die, are listed and shown, one is put back and takes
// effect once under its old identity, one is removed.
func TestDeadLetters(t *testing.T) {
	onEveryBroker(t, func(t *testing.T, broker, file string) {
		topic := uniqueTopic()
		var mended atomic.Bool
		shipped := make(chan string, 10)
		serve(t, file, topic, func(_ context.Context, order map[string]any) error {
			if !mended.Load() {
				return handlers.Permanent(errors.New("no such item"))
			}
			shipped <- order["id"].(string)
			return nil
		})
		for _, id := range []string{"one", "two", "three"} {
			_, err := run(t, "publish", topic, "-f", file, "--id", id, "--key", id, "--data", `{"id":"`+id+`"}`)
			require.NoError(t, err)
		}
		list := func(more ...string) (letters []framework.Letter) {
			text, err := run(t, append([]string{"dlq", "list", topic, "-f", file, "--json"}, more...)...)
			require.NoError(t, err, text)
			decoder := json.NewDecoder(strings.NewReader(text))
			for decoder.More() {
				var letter framework.Letter
				require.NoError(t, decoder.Decode(&letter), text)
				letters = append(letters, letter)
			}
			return letters
		}
		require.Eventually(t, func() bool { return len(list()) == 3 }, 30*time.Second, 100*time.Millisecond)
		letters := list("--reason", "permanent")
		require.Len(t, letters, 3, "looking took some away")
		require.Equal(t, topic, letters[0].Topic)
		require.Contains(t, letters[0].Error, "no such item")
		if !strings.HasPrefix(broker, "sqs") { // where each look waits a second
			require.Len(t, list("--limit", "2"), 2)
			require.Empty(t, list("--reason", "conflict"))
		}

		text, err := run(t, "dlq", "show", topic+".dead", "two", "-f", file)
		require.NoError(t, err, text)
		require.Contains(t, text, `{"id":"two"}`)
		require.Contains(t, text, "nothing had committed")

		mended.Store(true)
		text, err = run(t, "dlq", "requeue", topic, "two", "-f", file, "--json")
		require.NoError(t, err, text)
		var back requeued
		require.NoError(t, json.Unmarshal([]byte(text), &back), text)
		require.Equal(t, requeued{"two", topic, back.Committed}, back)
		require.Equal(t, framework.CommittedNo, back.Committed.State, back.Committed.Why)
		select {
		case id := <-shipped:
			require.Equal(t, "two", id)
		case <-time.After(30 * time.Second):
			require.Fail(t, "the event was not processed again")
		}
		require.Len(t, list(), 2)

		_, err = run(t, "dlq", "purge", topic, "one", "-f", file)
		require.ErrorContains(t, err, "--yes")
		_, err = run(t, "dlq", "purge", topic, "-f", file, "--yes")
		require.ErrorContains(t, err, "nothing is selected")
		text, err = run(t, "dlq", "purge", topic, "one", "-f", file, "--yes")
		require.NoError(t, err, text)
		require.Contains(t, text, "1 letters of "+topic+".dead removed")
		_, err = run(t, "dlq", "requeue", topic, "one", "-f", file)
		require.Equal(t, exitFound, exitStatus(err), "%v", err)
		require.Equal(t, "three", list()[0].EventID)

		text, err = run(t, "dlq", "requeue", topic, "--all", "-f", file)
		require.NoError(t, err, text)
		require.Contains(t, text, "1 put back; committed before: no 1")
		require.Equal(t, "three", <-shipped)
		require.Empty(t, list())
		text, err = run(t, "dlq", "list", topic, "-f", file)
		require.NoError(t, err)
		require.Equal(t, topic+".dead has no dead letters\n", text)
	})
}

// The broker gave the event of one handler up, and another has processed it: what had
// committed is asked of the one whose letter it is.
func TestTheBrokerNamesTheHandlerItGaveUpFor(t *testing.T) {
	onEveryBroker(t, func(t *testing.T, broker, file string) {
		settings, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = settings.WriteString("consumer: {max_deliveries: 2, redelivery_delay: 1ms}\n")
		require.NoError(t, errors.Join(err, settings.Close()))
		topic := uniqueTopic()
		audit := topic + ".audit"
		serve(t, file, topic, func(context.Context, map[string]any) error {
			return handlers.RetryAfter(time.Millisecond, errors.New("out of stock"))
		}, framework.Name(audit))
		shipped := make(chan string, 10)
		if !strings.HasPrefix(broker, "sqs") { // where a queue has one reader
			serve(t, file, topic, func(_ context.Context, order map[string]any) error {
				shipped <- order["id"].(string)
				return nil
			})
		}
		_, err = run(t, "publish", topic, "-f", file, "--id", "one", "--data", `{"id":"one"}`)
		require.NoError(t, err)
		if !strings.HasPrefix(broker, "sqs") {
			require.Equal(t, "one", <-shipped)
		}
		var text string
		require.Eventually(t, func() bool {
			text, err = run(t, "dlq", "show", topic, "one", "-f", file, "--json")
			return err == nil
		}, 30*time.Second, 100*time.Millisecond)
		var letter shownLetter
		require.NoError(t, json.Unmarshal([]byte(text), &letter), text)
		require.Equal(t, "fulfilment "+audit, letter.Service+" "+letter.Handler)
		require.Equal(t, framework.CommittedNo, letter.Committed.State, letter.Committed.Why)
	})
}

func TestDeadLettersOfNothing(t *testing.T) {
	file := writeConfig(t, "service: fulfilment\nsqlite: {path: \""+filepath.Join(t.TempDir(), "hapax.db")+"\"}\n")
	text, err := run(t, "dlq", "list", "orders", "-f", file)
	require.NoError(t, err)
	require.Equal(t, "orders.dead has no dead letters\n", text)
	_, err = run(t, "dlq", "show", "orders", "x", "-f", file)
	require.Equal(t, exitFound, exitStatus(err))
}

// Topics may share a dead-letter topic. Whoever names one of them means its letters:
// those of the others are not shown as its own, put back or removed.
func TestSharedDeadLetters(t *testing.T) {
	file := writeConfig(t, "service: fulfilment\nadmin: {enabled: false}\nsqlite: {path: \""+filepath.Join(t.TempDir(), "hapax.db")+"\"}\n"+
		"topics: {orders: {dead_letter: morgue, name: prod-orders}, payments: {dead_letter: morgue}, refunds: {dead_letter: refunds.morgue}}\n")
	fail := func(context.Context, map[string]any) error { return handlers.Permanent(errors.New("no such item")) }
	for _, topic := range []string{"orders", "payments", "refunds"} {
		stop := serve(t, file, topic, fail)
		for _, id := range []string{"one", "two"} {
			_, err := run(t, "publish", topic, "-f", file, "--id", topic+"-"+id, "--key", "k", "--data", "{}")
			require.NoError(t, err)
		}
		require.Eventually(t, func() bool { return strings.Count(letterIDs(t, file, topic), topic) == 2 }, 30*time.Second, 100*time.Millisecond)
		stop()
	}
	require.Equal(t, "orders-one orders-two", letterIDs(t, file, "orders"))
	require.Equal(t, "payments-one payments-two", letterIDs(t, file, "payments"))
	require.Equal(t, "orders-one orders-two payments-one payments-two", letterIDs(t, file, "morgue"), "all, by the name of their topic")
	require.Equal(t, "refunds-one refunds-two", letterIDs(t, file, "refunds.morgue"))

	text, err := run(t, "dlq", "purge", "payments", "--all", "--yes", "-f", file)
	require.NoError(t, err, text)
	require.Equal(t, "2 letters of morgue removed\n", text)
	require.Equal(t, "orders-one orders-two", letterIDs(t, file, "morgue"))
	text, err = run(t, "dlq", "list", "payments", "-f", file)
	require.NoError(t, err, text)
	require.Equal(t, "morgue has no dead letters of payments\n", text)
	_, err = run(t, "dlq", "show", "payments", "orders-one", "-f", file)
	require.Equal(t, exitFound, exitStatus(err))
	text, err = run(t, "dlq", "requeue", "morgue", "orders-one", "-f", file)
	require.NoError(t, err, text)
	require.Contains(t, text, "orders-one → orders: ")
}

// A topic may have its letters where those of another one are by default. That one's name
// means its own, too.
func TestDeadLettersInTheTopicOfAnother(t *testing.T) {
	file := writeConfig(t, "service: fulfilment\nadmin: {enabled: false}\nsqlite: {path: \""+filepath.Join(t.TempDir(), "hapax.db")+"\"}\n"+
		"topics: {payments: {dead_letter: orders.dead}}\n")
	fail := func(context.Context, map[string]any) error { return handlers.Permanent(errors.New("no such item")) }
	for _, topic := range []string{"orders", "payments"} {
		stop := serve(t, file, topic, fail)
		_, err := run(t, "publish", topic, "-f", file, "--id", topic+"-one", "--data", "{}")
		require.NoError(t, err)
		require.Eventually(t, func() bool { return strings.Contains(letterIDs(t, file, topic), topic) }, 30*time.Second, 100*time.Millisecond)
		stop()
	}
	require.Equal(t, "orders-one", letterIDs(t, file, "orders"))
	require.Equal(t, "payments-one", letterIDs(t, file, "payments"))
	require.Equal(t, "orders-one payments-one", letterIDs(t, file, "orders.dead"), "all, by the name of their topic")

	text, err := run(t, "dlq", "purge", "orders", "--all", "--yes", "-f", file)
	require.NoError(t, err, text)
	require.Equal(t, "1 letters of orders.dead removed\n", text)
	require.Equal(t, "payments-one", letterIDs(t, file, "orders.dead"))
	text, err = run(t, "dlq", "list", "orders", "-f", file)
	require.NoError(t, err, text)
	require.Equal(t, "orders.dead has no dead letters of orders\n", text)
}

// What was looked for is said, when there are letters, but none like that.
func TestNoLettersLikeThat(t *testing.T) {
	file, topic := withLetters(t, 1)
	for arguments, says := range map[string]string{
		"--reason conflict":                " has no dead letters with reason conflict\n",
		"--reason conflict --handler mail": " has no dead letters of handler mail with reason conflict\n",
	} {
		text, err := run(t, append([]string{"dlq", "list", topic, "-f", file}, strings.Fields(arguments)...)...)
		require.NoError(t, err)
		require.Equal(t, topic+".dead"+says, text)
	}
	_, err := run(t, "dlq", "requeue", topic, "e-1", "--reason", "conflict", "-f", file)
	require.EqualError(t, err, "no dead letter with reason conflict has the event ID e-1")
}

// A payload that is no text is not lost on the way to who looks at it.
func TestShowABinaryLetter(t *testing.T) {
	file, topic := writeConfig(t, "service: fulfilment\n"), uniqueTopic()
	payload := "\x00\xff\x1b[31m"
	_, err := runWith(t, strings.NewReader(payload), "publish", topic+".dead", "-f", file, "--id", "e")
	require.NoError(t, err)
	text, err := run(t, "dlq", "show", topic, "e", "-f", file, "--json")
	require.NoError(t, err, text)
	var letter struct{ Binary []byte }
	require.NoError(t, json.Unmarshal([]byte(text), &letter), text)
	require.Equal(t, payload, string(letter.Binary))
	text, err = run(t, "dlq", "show", topic, "e", "-f", file)
	require.NoError(t, err, text)
	require.Contains(t, text, "payload    (7 bytes, not text)\n")
}

// One long ID does not make the others unreadable.
func TestALongIDInATable(t *testing.T) {
	file, topic := writeConfig(t, "service: fulfilment\n"), uniqueTopic()
	id := strings.Repeat("0123456789", 100)
	for _, id := range []string{id, "short"} {
		_, err := run(t, "publish", topic+".dead", "-f", file, "--id", id, "--data", "{}")
		require.NoError(t, err)
	}
	text, err := run(t, "dlq", "list", topic, "-f", file)
	require.NoError(t, err, text)
	require.Contains(t, text, id[:100]+" ", "an ID of usual length is in one line")
	for line := range strings.Lines(text) {
		require.Less(t, utf8.RuneCountInString(line), 200, line)
	}
}

// A newline in an ID does not make two rows of one, of which a sender could choose the second.
func TestAnIDWithANewlineStaysInItsRow(t *testing.T) {
	file, topic := writeConfig(t, "service: fulfilment\n"), uniqueTopic()
	const id, shown = "order\n17\t\r\nx", `order\x0a17\x09\x0d\x0ax`
	text, err := run(t, "publish", topic+".dead", "-f", file, "--id", id, "--data", "{}")
	require.NoError(t, err)
	require.Contains(t, text, shown)
	for _, arguments := range [][]string{
		{"dlq", "list", topic}, {"tail", topic + ".dead", "--from", "start", "--no-follow"}, {"dlq", "requeue", topic, id},
	} {
		text, err := run(t, append(arguments, "-f", file)...)
		require.NoError(t, err, text)
		require.Contains(t, text, shown)
	}
}

// What an event holds is no command to the terminal of who looks at it, also where it is
// text: an ID, a key or a payload may come from anybody.
func TestEventsAreNoCommandsToATerminal(t *testing.T) {
	file, topic := writeConfig(t, "service: fulfilment\n"), uniqueTopic()
	payload := "one\r\n\ttwo\x1b[2J\rthree\x7f\u009b31m ü"
	_, err := runWith(t, strings.NewReader(payload), "publish", topic+".dead", "-f", file, "--id", "e\x1b]0;t\x07", "--key", "k\x1b[31m", "--meta", "m=\x1b[2J")
	require.NoError(t, err)
	shown := `two\x1b[2J\x0dthree\x7f\xc2\x9b31m ü`
	for _, c := range []struct {
		arguments []string
		contains  []string
	}{
		{[]string{"tail", topic + ".dead", "--from", "start", "--no-follow"}, []string{`e\x1b]0;t\x07  one`, "\t" + shown, `hapax_key=k\x1b[31m`, `m=\x1b[2J`}},
		{[]string{"dlq", "list", topic}, []string{`e\x1b]0;t\x07`}},
		{[]string{"dlq", "show", topic, "e\x1b]0;t\x07"}, []string{`event ID   e\x1b]0;t\x07`, "\t" + shown, `m=\x1b[2J`}},
		{[]string{"dlq", "requeue", topic, "e\x1b]0;t\x07"}, []string{`e\x1b]0;t\x07`}},
	} {
		text, err := run(t, append(c.arguments, "-f", file)...)
		require.NoError(t, err, text)
		require.NotContains(t, text, "\x1b")
		require.NotContains(t, text, "\u009b")
		for _, contained := range c.contains {
			require.Contains(t, text, contained)
		}
	}
}
