package redis_test

import (
	"context"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// The lease of a claim whose release did not get through, because a connection broke, say,
// goes with the message's dead letter: it would keep copies of the event, and the letter
// that is put back, waiting for as long as this consumer lives.
func TestALeaseDoesNotOutliveItsDeadLetter(t *testing.T) {
	t.Parallel()
	for name, bury := range map[string]func(*testing.T, dedup.Strategy, *dedup.Event){
		"of the handler": func(t *testing.T, strategy dedup.Strategy, event *dedup.Event) {
			letter := dedup.Output{Topic: event.EventID + ".dead", Message: message.NewMessage("letter", nil)}
			require.NoError(t, strategy.DeadLetter(t.Context(), event, letter))
			event.Message.Ack()
		},
		"of the broker": func(_ *testing.T, _ dedup.Strategy, event *dedup.Event) { event.Message.Nack() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker, topic, client := openShared(t, nil), newTopic(t), rawClient(t)
			messages := subscribe(t, broker, topic, adapters.Subscription{MaxDeliveries: 1})
			strategy, err := broker.Strategy(dedup.StrategyXAck, adapters.StrategyOptions{Window: time.Hour, Claim: dedup.Pessimistic})
			require.NoError(t, err)
			claim := func() (*dedup.Event, dedup.Claim) {
				require.NoError(t, broker.Publisher().Publish(topic, sample()))
				event := &dedup.Event{Message: receive(t, messages), Entry: dedup.Entry{ID: dedup.NewID(dedup.Scope{}, topic), EventID: topic}}
				claim, err := strategy.Claim(t.Context(), []*dedup.Event{event})
				require.NoError(t, err)
				return event, claim
			}
			event, held := claim()
			require.Equal(t, dedup.Fresh, event.Verdict)
			broken, cancel := context.WithCancel(t.Context())
			cancel()
			held.Release(broken)
			bury(t, strategy, event)
			drained(t, client, topic)
			require.EqualValues(t, 1, client.XLen(t.Context(), topic+".dead").Val())

			event, held = claim() // put back
			require.Equal(t, dedup.Fresh, event.Verdict)
			require.NoError(t, held.Commit(t.Context(), nil))
			event.Message.Ack()
		})
	}
}
