package redis_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
)

// The window may be changed, and changed back: what was processed stays processed.
func TestTheWindowMayChange(t *testing.T) {
	t.Parallel()
	for _, claim := range claims {
		broker, topic, client := openShared(t, nil), newTopic(t), rawClient(t)
		var runs atomic.Int64
		events := []*message.Message{sample()}
		for i, window := range []time.Duration{time.Hour, 2 * time.Hour, time.Hour} {
			outcomes, stop := serveUnder(t, broker, topic, dedup.ClaimKind(claim), window, func(msg *message.Message) ([]*message.Message, error) {
				runs.Add(1)
				return pass(msg)
			})
			for _, event := range events { // the last one is new
				require.NoError(t, broker.Publisher().Publish(topic, event.Copy()))
				require.NoError(t, outcome(t, outcomes))
			}
			drained(t, client, topic)
			stop()
			require.EqualValues(t, i+1, runs.Load())
			require.EqualValues(t, i+1, client.XLen(t.Context(), topic+".out").Val())
			another := sample()
			another.UUID = fmt.Sprint(i)
			events = append(events, another)
		}
	}
}
