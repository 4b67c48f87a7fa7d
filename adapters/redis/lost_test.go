package redis_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
)

// A member that was taken for dead while a message waited for its redelivery waits for it
// no longer: it comes again, to this one under another name or to another, and its key goes
// on.
func TestLostMessageThatWaitedHoldsUpNoKey(t *testing.T) {
	t.Parallel()
	broker, topic, client := openShared(t, nil), newTopic(t), rawClient(t)
	messages := subscribe(t, broker, topic, adapters.Subscription{Group: "group"})
	require.NoError(t, broker.Publisher().Publish(topic, sample()))
	msg := receive(t, messages)
	adapters.DeliveryFrom(msg.Context()).RetryAfter(time.Hour)
	msg.Nack()
	removed, err := client.ZRemRangeByRank(t.Context(), fmt.Sprintf("hapax:members:%d:%s:group", len(topic), topic), 0, -1).Result()
	require.NoError(t, err)
	require.EqualValues(t, 1, removed)
	msg = receive(t, messages)
	require.Equal(t, "uuid", msg.UUID)
	msg.Ack()
	drained(t, client, topic)
}
