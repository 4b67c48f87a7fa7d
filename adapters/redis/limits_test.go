package redis_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/dedup"
)

// What one call of the script cannot carry is refused whole: nothing of it is
// published, and no mark makes the event a duplicate.
func TestLimitsOfACommit(t *testing.T) {
	t.Parallel()
	const topics = 195 // the script knows 200 streams
	for _, c := range []struct {
		name            string
		outputs, topics int
		refused         string
	}{
		{"as many topics as there may be", topics, topics, ""},
		{"too many topics", topics + 1, topics + 1, "outputs to 196 topics in one commit, the limit is 195"},
		{"many outputs to few topics", 5_000, topics, ""},
		{"too many outputs", 65_536, 1, "65536 outputs of 1 events in one commit, the limit of each is 65535"},
	} {
		t.Run(c.name, func(t *testing.T) {
			broker, topic, client := openShared(t, func(c *redis.Config) { c.Timeout, c.Lease = time.Minute, time.Minute }), newTopic(t), rawClient(t)
			messages := subscribe(t, broker, topic, adapters.Subscription{})
			strategy, err := broker.Strategy(dedup.StrategyXAck, adapters.StrategyOptions{Window: time.Hour})
			require.NoError(t, err)
			require.NoError(t, broker.Publisher().Publish(topic, message.NewMessage("uuid", []byte("x"))))
			msg := receive(t, messages)
			claim := func() (*dedup.Event, dedup.Claim) {
				event := &dedup.Event{Message: msg, Entry: dedup.Entry{ID: dedup.NewID(dedup.Scope{}, topic)}}
				claim, err := strategy.Claim(msg.Context(), []*dedup.Event{event})
				require.NoError(t, err)
				return event, claim
			}
			outputs, keys := make([]dedup.Output, c.outputs), make([]string, c.topics)
			for i := range keys {
				keys[i] = fmt.Sprintf("%s.out.%d", topic, i)
			}
			t.Cleanup(func() { client.Del(context.Background(), keys...) })
			for i := range outputs {
				outputs[i] = dedup.Output{Topic: keys[i%len(keys)], Message: message.NewMessage(fmt.Sprint(i), nil)}
			}
			_, first := claim()
			err = first.Commit(msg.Context(), outputs)
			published := int64(0)
			for _, key := range keys {
				published += client.XLen(t.Context(), key).Val()
			}
			second, _ := claim()
			if c.refused == "" {
				require.NoError(t, err)
				require.EqualValues(t, c.outputs, published)
				require.Equal(t, dedup.Duplicate, second.Verdict)
			} else {
				require.ErrorIs(t, err, dedup.ErrBadOutput)
				require.ErrorContains(t, err, c.refused)
				require.Zero(t, published)
				require.Equal(t, dedup.Fresh, second.Verdict)
			}
			msg.Ack()
		})
	}
}

// More entries in one commit than Lua takes as the arguments of a call.
func TestLargeBatch(t *testing.T) {
	t.Parallel()
	const size = 8_500
	broker, topic, client := openShared(t, func(c *redis.Config) {
		c.Timeout, c.Lease, c.DeleteAcknowledged = time.Minute, time.Minute, true
	}), newTopic(t), rawClient(t)
	sent := make([]*message.Message, size)
	for i := range sent {
		sent[i] = message.NewMessage(fmt.Sprint(i), nil)
	}
	require.NoError(t, broker.Publisher().Publish(topic, sent...))
	messages := subscribe(t, broker, topic, adapters.Subscription{Window: size})
	strategy, err := broker.Strategy(dedup.StrategyXAck, adapters.StrategyOptions{Window: time.Hour})
	require.NoError(t, err)
	events := make([]*dedup.Event, size)
	for i := range events {
		msg := receive(t, messages)
		events[i] = &dedup.Event{Message: msg, Entry: dedup.Entry{ID: dedup.NewID(dedup.Scope{Handler: topic}, msg.UUID)}}
	}
	claim, err := strategy.Claim(events[0].Message.Context(), events)
	require.NoError(t, err)
	require.NoError(t, claim.Commit(events[0].Message.Context(), nil))
	require.Zero(t, pending(t, client, topic))
	require.Zero(t, client.XLen(t.Context(), topic).Val())
	for _, event := range events {
		event.Message.Ack()
	}
}
