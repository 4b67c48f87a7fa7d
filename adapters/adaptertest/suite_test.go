package adaptertest_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/adaptertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func harness(server *server) adaptertest.Harness {
	var topics atomic.Int64
	return adaptertest.Harness{
		Open:    func(*testing.T) adapters.Broker { return &memory{server: server} },
		Topic:   func(*testing.T) string { return fmt.Sprint("topic-", topics.Add(1)) },
		Abandon: func(_ *testing.T, broker adapters.Broker) { broker.(*memory).freeze() },
		Freeze:  func(_ *testing.T, broker adapters.Broker) { broker.(*memory).freeze() },
	}
}

func TestSuitePasses(t *testing.T) { adaptertest.Run(t, harness(newServer(""))) }

func TestWatermillSuitePasses(t *testing.T) {
	adaptertest.Watermill(t, harness(newServer("")), tests.Features{
		ConsumerGroups: true,
		Persistent:     true,
		// Only equal keys are in order, and this suite sets none.
		GuaranteedOrder: false,
	})
}

// defects and the part of the suite that finds each.
var defects = map[string]string{
	"loses metadata":               "roundtrip/unicode",
	"draws a new UUID":             "roundtrip/plain",
	"new groups start at the end":  "topics/nobody_has_subscribed",
	"hands out one at a time":      "concurrency/messages_without_a_key",
	"exceeds the window":           "concurrency/not_beyond_the_window",
	"drops key order":              "order/one_after_the_other",
	"order ends at the member":     "order/several_members,_one_leaves",
	"forgets its place on nack":    "order/one_member",
	"ignores nacks":                "retry/same_message,_next_attempt",
	"acks on nack":                 "retry/same_message,_next_attempt",
	"does not count attempts":      "retry/same_message,_next_attempt",
	"shares metadata":              "retry/same_message,_next_attempt",
	"ignores RetryAfter":           "retry/after_the_delay_asked_for",
	"acks nothing":                 "close/waits_for_handlers",
	"drops dead letters":           "dead_letter",
	"gives no reason":              "dead_letter",
	"knows one dead-letter topic":  "dead_letter_elsewhere",
	"counts the excused":           "excused",
	"does not drain":               "close/waits_for_handlers",
	"keeps contexts alive":         "close/cuts_off_at_the_deadline",
	"keeps what it did not finish": "close/cuts_off_at_the_deadline",
	"publishes when closed":        "close/closed_is_closed",
	"never a duplicate":            "strategy/inbox,_/commit_publishes_and_marks",
	"never a conflict":             "strategy/inbox,_/conflict",
	"marks at claim":               "strategy/inbox,_/release_leaves_no_mark",
	"marks dead letters":           "strategy/inbox,_/dead_letter_leaves_no_mark",
	"one scope for all":            "strategy/inbox,_/scopes_are_apart",
	"never loses a race":           "strategy/inbox,_/of_two_copies_one_commits",
	"publishes before it checks":   "strategy/inbox,_/of_two_copies_one_commits",
	"commits for zombies":          "strategy/inbox,_/taken_over,_no_commit",
}

const defectVariable = "ADAPTERTEST_DEFECT"

// The suite runs in a process of its own for each defect, because it must fail
// there. Without a defect it passes there: what fails is due to the defect.
func TestSuiteFindsDefects(t *testing.T) {
	run := func(t *testing.T, defect, test string) (string, error) {
		pattern := "^TestSuiteOnDefect$/^" + strings.ReplaceAll(regexp.QuoteMeta(test), "/", "$/^") + "$"
		command := exec.CommandContext(t.Context(), os.Args[0], "-test.run="+pattern, "-test.v", "-test.timeout=60s")
		command.Env = append(os.Environ(), defectVariable+"="+defect)
		output, err := command.CombinedOutput()
		return string(output), err
	}
	for _, test := range slices.Compact(slices.Sorted(maps.Values(defects))) {
		t.Run("none/"+test, func(t *testing.T) {
			t.Parallel()
			output, err := run(t, "none", test)
			require.NoError(t, err, output)
			require.Contains(t, output, "--- PASS: TestSuiteOnDefect/"+test+" ")
		})
	}
	for defect, test := range defects {
		t.Run(defect, func(t *testing.T) {
			t.Parallel()
			output, err := run(t, defect, test)
			require.Error(t, err, "the suite passed:\n%s", output)
			require.Contains(t, output, "--- FAIL: TestSuiteOnDefect/"+test+" ")
		})
	}
}

// TestSuiteOnDefect is the child of TestSuiteFindsDefects.
func TestSuiteOnDefect(t *testing.T) {
	defect := os.Getenv(defectVariable)
	if defect == "" {
		t.Skip("runs in the processes that TestSuiteFindsDefects starts")
	}
	h := harness(newServer(defect))
	h.Patience = time.Second
	adaptertest.Run(t, h)
}
