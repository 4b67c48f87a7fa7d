package redis_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// readAs appends a message and reads it under a consumer's name, in one step: nobody
// who waits for messages gets between.
func readAs(t *testing.T, topic, consumer, uuid string) {
	t.Helper()
	client := rawClient(t)
	values, err := redisstream.DefaultMarshallerUnmarshaller{}.Marshal(topic, keyed(uuid))
	require.NoError(t, err)
	_, err = client.TxPipelined(t.Context(), func(pipe goredis.Pipeliner) error {
		pipe.XAdd(t.Context(), &goredis.XAddArgs{Stream: topic, Values: values})
		pipe.XReadGroup(t.Context(), &goredis.XReadGroupArgs{Group: "group", Consumer: consumer, Streams: []string{topic, ">"}})
		return nil
	})
	require.NoError(t, err)
}

func keyed(uuid string) *message.Message {
	msg := message.NewMessage(uuid, nil)
	msg.Metadata.Set(dedup.MetaKey, "key")
	return msg
}

// A consumer that was taken for dead reads once more before it learns of it. What it
// read goes out before what came later.
func TestReadOfTheDeadComesFirst(t *testing.T) {
	t.Parallel()
	broker, topic := openShared(t, nil), newTopic(t)
	messages := subscribe(t, broker, topic, adapters.Subscription{Ordering: adapters.OrderByKey})
	for range 5 {
		readAs(t, topic, "hapax-taken-for-dead", "first")
		require.NoError(t, broker.Publisher().Publish(topic, keyed("second")))
		for _, uuid := range []string{"first", "second"} {
			msg := receive(t, messages)
			require.Equal(t, uuid, msg.UUID)
			msg.Ack()
		}
	}
}

// A read that a consumer had given up reaches the server all the same, later: what it
// got is found.
func TestReadGivenUpIsFound(t *testing.T) {
	t.Parallel()
	broker, topic := openShared(t, nil), newTopic(t)
	messages := subscribe(t, broker, topic, adapters.Subscription{})
	require.NoError(t, broker.Publisher().Publish(topic, keyed("first")))
	first := receive(t, messages)
	client := rawClient(t)
	consumers, err := client.XInfoConsumers(t.Context(), topic, "group").Result()
	require.NoError(t, err)
	require.Len(t, consumers, 1)
	readAs(t, topic, consumers[0].Name, "strayed")
	first.Ack()
	strayed := receive(t, messages)
	require.Equal(t, "strayed", strayed.UUID)
	strayed.Ack()
}

// Nor does what a living member read behind the dead one's wait without a lane while others
// read on: they would overtake it.
func TestWhatWaitsForTheDeadIsNotOvertaken(t *testing.T) {
	t.Parallel()
	topic, handled := newTopic(t), make(chan string, 100)
	broker := openShared(t, nil)
	for range 12 { // so that there is always one who asks for the turn
		messages := subscribe(t, broker, topic, adapters.Subscription{Ordering: adapters.OrderByKey})
		go func() {
			for msg := range messages {
				handled <- msg.UUID
				msg.Ack()
			}
		}()
	}
	client := rawClient(t)
	appended := func(pipe goredis.Cmdable, uuid, key string) {
		msg := message.NewMessage(uuid, nil)
		msg.Metadata.Set(dedup.MetaKey, key)
		values, err := redisstream.DefaultMarshallerUnmarshaller{}.Marshal(topic, msg)
		require.NoError(t, err)
		pipe.XAdd(t.Context(), &goredis.XAddArgs{Stream: topic, Values: values})
	}
	for round := range 200 {
		<-time.After(12 * time.Millisecond) // others may read after 10ms
		key := fmt.Sprint("key-", round)
		_, err := client.TxPipelined(t.Context(), func(pipe goredis.Pipeliner) error {
			appended(pipe, "of the dead", "another "+key)
			pipe.XReadGroup(t.Context(), &goredis.XReadGroupArgs{Group: "group", Consumer: "hapax-taken-for-dead", Streams: []string{topic, ">"}})
			appended(pipe, "first", key)
			return nil
		})
		require.NoError(t, err)
		appended(client, "second", key)
		var order []string
		for range 3 {
			select {
			case uuid := <-handled:
				if uuid != "of the dead" {
					order = append(order, uuid)
				}
			case <-time.After(20 * time.Second):
				require.Fail(t, "a message is missing", "round %d: %v", round, order)
			}
		}
		require.Equal(t, []string{"first", "second"}, order, "round %d", round)
	}
}
