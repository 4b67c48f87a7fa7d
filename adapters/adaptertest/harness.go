package adaptertest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
)

// Harness connects the suite with a broker.
type Harness struct {
	// Open connects to the broker, the same one at every call; several
	// connections are open at a time. The suite closes them. Leases should be
	// short (a second), because tests wait for them to run out. Required.
	Open func(t *testing.T) adapters.Broker
	// Topic returns a logical topic name that nobody has used. Required.
	Topic func(t *testing.T) string

	// Abandon makes a connection end as if its process had been killed: nothing
	// is drained, released or told to the broker. Nil: see Without.
	Abandon func(t *testing.T, broker adapters.Broker)
	// Freeze stops the heartbeats and renewals of a connection, as a long pause
	// of its process would, and leaves the rest working. It returns at once;
	// others may take over when the lease has run out. Nil: see Without.
	Freeze func(t *testing.T, broker adapters.Broker)
	// Without explains each hook that is nil, by field name.
	Without map[string]string

	// Patience is how long the suite waits for what must happen. Default 30s.
	Patience time.Duration
}

// Run runs the suite.
func Run(t *testing.T, harness Harness) {
	if harness.Patience <= 0 {
		harness.Patience = 30 * time.Second
	}
	s := &suite{Harness: harness}
	s.capabilities = s.open(t).Capabilities()
	for _, topic := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"roundtrip", s.roundtrip},
		{"topics", s.topics},
		{"groups", s.groups},
		{"order", s.order},
		{"concurrency", s.concurrency},
		{"retry", s.retry},
		{"dead letter", s.deadLetter},
		{"dead letter elsewhere", s.deadLetterElsewhere},
		{"excused", s.excused},
		{"close", s.close},
		{"takeover", s.takeover},
		{"strategy", s.strategies},
	} {
		t.Run(topic.name, topic.run)
	}
}

type suite struct {
	Harness
	capabilities adapters.Capabilities
}

// open connects, and closes when the test is over.
func (s *suite) open(t *testing.T) adapters.Broker {
	broker := s.Open(t)
	t.Cleanup(func() {
		if err := broker.Close(); err != nil && !t.Failed() {
			t.Logf("close broker: %v", err)
		}
	})
	return broker
}

// need skips a test when the broker lacks a capability, and says why.
func (s *suite) need(t *testing.T, capability string, has bool) {
	t.Helper()
	skipWithout(t, s.capabilities.Name+" lacks the capability "+capability, "Capabilities.Why", s.capabilities.Why[capability], has)
}

// needHook skips a test when the harness cannot stage what it needs.
func (s *suite) needHook(t *testing.T, hook string, has bool) {
	t.Helper()
	skipWithout(t, "the harness of "+s.capabilities.Name+" has no "+hook, "Harness.Without", s.Without[hook], has)
}

// needOrder skips a test of order where none is kept.
func (s *suite) needOrder(t *testing.T) {
	t.Helper()
	s.need(t, "KeyOrder", s.ordered())
}

func (s *suite) ordered() bool { return s.capabilities.KeyOrder != adapters.OrderNever }

func skipWithout(t *testing.T, lack, where, why string, has bool) {
	t.Helper()
	if has {
		return
	}
	require.NotEmptyf(t, why, "%s, and %s does not explain it", lack, where)
	t.Skipf("%s: %s", lack, why)
}
