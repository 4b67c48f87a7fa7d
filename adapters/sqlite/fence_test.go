package sqlite_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqlite"
	"github.com/hapax-go/hapax/dedup"
)

var scope = dedup.Scope{Service: "test", Handler: "ship"}

func openStrategy(t *testing.T, broker *sqlite.Broker, kind dedup.ClaimKind) dedup.Strategy {
	t.Helper()
	strategy, err := broker.Strategy(dedup.StrategyInbox, adapters.StrategyOptions{Scope: scope, Group: group, Window: time.Hour, Claim: kind})
	require.NoError(t, err)
	return strategy
}

func claimed(t *testing.T, strategy dedup.Strategy, msgs ...*message.Message) (dedup.Claim, []*dedup.Event) {
	t.Helper()
	events := make([]*dedup.Event, len(msgs))
	for i, msg := range msgs {
		id := msg.Metadata.Get(dedup.MetaEventID)
		events[i] = &dedup.Event{Message: msg, Entry: dedup.Entry{
			ID: dedup.NewID(scope, id), Digest: dedup.NewDigest(msg.Payload), Token: dedup.NextToken(), EventID: id, Scope: scope, Topic: input,
		}}
	}
	claim, err := strategy.Claim(msgs[0].Context(), events)
	require.NoError(t, err)
	return claim, events
}

// A claim whose lease was taken over by that of another copy has lost nothing but the
// lease: its message is this member's as before, and comes again.
func TestMessageComesAgainAfterItsLeaseWasTakenOver(t *testing.T) {
	broker := openBroker(t, file(t), func(c *sqlite.Config) { c.LeaseDuration = 500 * time.Millisecond })
	strategy := openStrategy(t, broker, dedup.Pessimistic)
	messages := subscribe(t, broker, input, nil)
	publish(t, broker, event("1", "one key"), event("1", "another key"))
	first, copied := receive(t, messages), receive(t, messages)
	stale, _ := claimed(t, strategy, first)
	require.NotNil(t, stale)
	sqlite.Freeze(broker) // nobody is there who would take the consumer's place
	var claim dedup.Claim
	require.Eventually(t, func() bool {
		claim, _ = claimed(t, strategy, copied)
		return claim != nil
	}, 20*time.Second, 10*time.Millisecond)
	require.ErrorIs(t, stale.Commit(t.Context(), nil), dedup.ErrLeaseLost)
	stale.Release(t.Context())
	first.Nack()
	require.NoError(t, claim.Commit(t.Context(), nil))
	copied.Ack()

	again := receive(t, messages)
	claim, events := claimed(t, strategy, again)
	require.Nil(t, claim)
	require.Equal(t, dedup.Duplicate, events[0].Verdict)
	again.Ack()
	drained(t, broker)
}

// One message of a batch is gone: an operator took it. The others are as before.
func TestBatchLosesOneMessageOnly(t *testing.T) {
	broker := openBroker(t, file(t), nil)
	strategy := openStrategy(t, broker, dedup.Optimistic)
	messages := subscribe(t, broker, input, nil)
	publish(t, broker, event("taken", ""), event("kept", ""))
	taken, kept := receive(t, messages), receive(t, messages)
	claim, _ := claimed(t, strategy, taken, kept)
	require.NoError(t, broker.Letters(t.Context(), input, func(letter *message.Message) (bool, error) { return string(letter.Payload) == "taken", nil }))
	require.ErrorIs(t, claim.Commit(t.Context(), nil), dedup.ErrLeaseLost)
	claim.Release(t.Context())
	taken.Nack()
	kept.Nack()
	again := receive(t, messages)
	require.Equal(t, "kept", string(again.Payload))
	again.Ack()
	drained(t, broker)
}
