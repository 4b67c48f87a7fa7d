package redis_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/dedup"
)

// given is a message that was given to a member whose window is full.
type given struct {
	busy, other *redis.Broker
	messages    <-chan *message.Message // of the busy member
	others      <-chan *message.Message
	held        map[string]*message.Message
	publish     func(uuid, key string)
	mail        func() int // how many members are told that they were given something
}

func give(t *testing.T, topic string) *given {
	g := &given{busy: openShared(t, nil), other: openShared(t, nil), held: map[string]*message.Message{}}
	g.publish = func(uuid, key string) {
		msg := message.NewMessage(uuid, nil)
		msg.Metadata.Set(dedup.MetaKey, key)
		require.NoError(t, g.busy.Publisher().Publish(topic, msg))
	}
	client := rawClient(t)
	g.mail = func() int {
		return len(client.Keys(t.Context(), fmt.Sprintf("hapax:mail:%d:%s:group:*", len(topic), topic)).Val())
	}
	subscription := adapters.Subscription{Ordering: adapters.OrderByKey, Window: 2, DrainTimeout: 100 * time.Millisecond}
	g.messages = subscribe(t, g.busy, topic, subscription)
	g.publish("first", "key")
	g.publish("filler", "other key")
	for range 2 {
		msg := receive(t, g.messages)
		g.held[msg.UUID] = msg
	}
	g.others = subscribe(t, g.other, topic, subscription)
	g.publish("second", "key")
	require.Eventually(t, func() bool { return g.mail() == 1 }, 20*time.Second, time.Millisecond, "the second was not given to the owner of its key")
	return g
}

// What was given to a member whose window is full for longer than a lease goes before
// later messages of its key.
func TestGivenMessageIsNotOvertaken(t *testing.T) {
	t.Parallel()
	topic, client := newTopic(t), rawClient(t)
	g := give(t, topic)
	<-time.After(1500 * time.Millisecond) // openShared's lease is a second
	require.NoError(t, g.other.Close())   // the busy one reads itself

	// The first is committed, but its handler has not ended: the server holds as many
	// entries for the member as that has.
	strategy, err := g.busy.Strategy(dedup.StrategyXAck, adapters.StrategyOptions{Window: time.Hour})
	require.NoError(t, err)
	first := &dedup.Event{Message: g.held["first"], Entry: dedup.Entry{ID: dedup.NewID(dedup.Scope{}, topic)}}
	claim, err := strategy.Claim(t.Context(), []*dedup.Event{first})
	require.NoError(t, err)
	require.NoError(t, claim.Commit(t.Context(), nil))
	g.publish("third", "key")
	g.held["filler"].Ack()
	<-time.After(200 * time.Millisecond) // it reads on
	g.held["first"].Ack()
	for _, uuid := range []string{"second", "third"} {
		msg := receive(t, g.messages)
		require.Equal(t, uuid, msg.UUID)
		msg.Ack()
	}
	drained(t, client, topic)
}

// What tells a member that it was given something goes with the member.
func TestMailOfTheDeadIsRemoved(t *testing.T) {
	t.Parallel()
	g := give(t, newTopic(t))
	g.busy.Freeze()
	for range 3 {
		receive(t, g.others).Ack()
	}
	require.Zero(t, g.mail())
}
