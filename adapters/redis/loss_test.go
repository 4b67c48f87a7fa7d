package redis_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/internal/servers"
)

func rawClient(t *testing.T) *goredis.Client {
	client := goredis.NewClient(&goredis.Options{Addr: servers.Require(t, servers.Redis).Hosts[0]})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

// Scenario 12: somebody trims what a dead consumer had not acknowledged.
func TestTrimBelowPendingIsReported(t *testing.T) {
	dying, topic, client := openShared(t, nil), newTopic(t), rawClient(t)
	messages := subscribe(t, dying, topic, adapters.Subscription{DrainTimeout: -1})
	for i := range 5 {
		require.NoError(t, dying.Publisher().Publish(topic, message.NewMessage(fmt.Sprint(i), []byte("x"))))
		receive(t, messages)
	}
	dying.Freeze()
	require.NoError(t, client.XTrimMaxLen(t.Context(), topic, 2).Err())

	heir := openShared(t, nil)
	rest := subscribe(t, heir, topic, adapters.Subscription{})
	for range 2 {
		receive(t, rest).Ack()
	}
	require.Eventually(t, func() bool { return heir.Losses() == 3 }, 20*time.Second, 10*time.Millisecond, "losses reported: %d", heir.Losses())
	findings := heir.Check(t.Context())
	require.NotEmpty(t, findings)
	require.Equal(t, "redis-loss", findings[0].Name)
	require.Contains(t, findings[0].Problem, "3 messages")
	require.Eventually(t, func() bool { return pending(t, client, topic) == 0 }, 20*time.Second, 10*time.Millisecond)
}

// Entries that were trimmed before the group read them are noticed too, where the
// server keeps track of deletions.
func TestTrimOfUnreadIsReported(t *testing.T) {
	broker, topic, client := openShared(t, nil), newTopic(t), rawClient(t)
	messages := subscribe(t, broker, topic, adapters.Subscription{Window: 1})
	for i := range 5 {
		require.NoError(t, broker.Publisher().Publish(topic, message.NewMessage(fmt.Sprint(i), []byte("x"))))
	}
	msg := receive(t, messages) // the window is full
	require.NoError(t, client.XTrimMaxLen(t.Context(), topic, 1).Err())
	require.NoError(t, broker.Trim(t.Context(), topic))
	require.NoError(t, broker.Trim(t.Context(), topic))
	require.EqualValues(t, 1, broker.Losses(), "reported once")
	msg.Ack()
	receive(t, messages).Ack()
}

// Trimming keeps what a group has not acknowledged, whatever the limit.
func TestTrimKeepsWhatIsNotAcknowledged(t *testing.T) {
	broker := openShared(t, func(c *redis.Config) { c.MaxLength = 100 })
	topic, client := newTopic(t), rawClient(t)
	var sent []*message.Message
	for i := range 3000 {
		sent = append(sent, message.NewMessage(fmt.Sprint(i), []byte("x")))
	}
	require.NoError(t, broker.Publisher().Publish(topic, sent...))
	require.NoError(t, client.XGroupCreate(t.Context(), topic, "slow", "0").Err())
	read, err := client.XReadGroup(t.Context(), &goredis.XReadGroupArgs{Group: "slow", Consumer: "c", Streams: []string{topic, ">"}, Count: 2000}).Result()
	require.NoError(t, err)
	length := func() int64 { return client.XLen(context.Background(), topic).Val() }
	require.NoError(t, broker.Trim(t.Context(), topic))
	require.EqualValues(t, 3000, length(), "the first entry is pending")
	var acked []string
	for _, entry := range read[0].Messages[:1500] {
		acked = append(acked, entry.ID)
	}
	require.NoError(t, client.XAck(t.Context(), topic, "slow", acked...).Err())
	require.NoError(t, broker.Trim(t.Context(), topic))
	require.GreaterOrEqual(t, length(), int64(1500), "an entry was trimmed that is pending or unread")
	require.Less(t, length(), int64(1700), "nothing was trimmed")
	require.Zero(t, broker.Losses())
}

// Limits too: a group that is done with everything bounds the stream to MaxLength.
func TestTrimByAge(t *testing.T) {
	broker := openShared(t, func(c *redis.Config) { c.MaxAge = time.Millisecond })
	topic, client := newTopic(t), rawClient(t)
	messages := subscribe(t, broker, topic, adapters.Subscription{})
	for range 500 {
		require.NoError(t, broker.Publisher().Publish(topic, message.NewMessage("x", nil)))
		receive(t, messages).Ack()
	}
	require.Eventually(t, func() bool {
		require.NoError(t, broker.Trim(t.Context(), topic))
		return client.XLen(t.Context(), topic).Val() <= 200
	}, 10*time.Second, 10*time.Millisecond)
	require.Zero(t, broker.Losses())
}

func pending(t *testing.T, client goredis.UniversalClient, topic string) int64 {
	groups, err := client.XInfoGroups(t.Context(), topic).Result()
	require.NoError(t, err)
	return groups[0].Pending
}
