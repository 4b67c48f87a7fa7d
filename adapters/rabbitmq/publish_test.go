package rabbitmq_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/rabbitmq"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/servers"
)

func newMessage(id string) *message.Message {
	msg := message.NewMessage("uuid-"+id, []byte("payload of "+id))
	msg.Metadata.Set(dedup.MetaEventID, id)
	return msg
}

func subscribe(t *testing.T, broker *rabbitmq.Broker, topic string, change func(*adapters.Subscription)) <-chan *message.Message {
	t.Helper()
	subscription := adapters.Subscription{Group: "group", MaxDeliveries: -1, DrainTimeout: time.Second}
	if change != nil {
		change(&subscription)
	}
	subscriber, err := broker.Subscriber(subscription)
	require.NoError(t, err)
	t.Cleanup(func() { _ = subscriber.Close() })
	messages, err := subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	return messages
}

func receive(t *testing.T, messages <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case msg, open := <-messages:
		require.True(t, open)
		return msg
	case <-time.After(20 * time.Second):
		require.FailNow(t, "no message came")
		return nil
	}
}

func opened(t *testing.T, change func(*rabbitmq.Config)) *rabbitmq.Broker {
	t.Helper()
	broker := open(t, change)
	t.Cleanup(func() { _ = broker.Close() })
	return broker
}

// raw is a plain connection to the server.
func raw(t *testing.T) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial(servers.Require(t, servers.RabbitMQ).URL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	channel, err := conn.Channel()
	require.NoError(t, err)
	return channel
}

// The server confirms an unroutable message as if it were stored.
func TestUnroutableIsAnError(t *testing.T) {
	broker := opened(t, func(c *rabbitmq.Config) { c.Channels = 1 })
	nobody, somebody := newTopic(t), newTopic(t)
	messages := subscribe(t, broker, somebody, nil)
	publisher := broker.Publisher()
	require.ErrorIs(t, publisher.Publish(nobody, newMessage("x")), rabbitmq.ErrUnroutable)

	// On one channel, mixed with messages that do find a queue, under the same
	// event IDs: only the right ones fail, every time.
	const each = 200
	var sending sync.WaitGroup
	errs := make([]error, 2*each)
	for i := range each {
		sending.Go(func() { errs[i] = publisher.Publish(nobody, newMessage(fmt.Sprint(i))) })
		sending.Go(func() { errs[each+i] = publisher.Publish(somebody, newMessage(fmt.Sprint(i))) })
	}
	sending.Wait()
	for i, err := range errs {
		if i < each {
			require.ErrorIs(t, err, rabbitmq.ErrUnroutable)
			require.ErrorContains(t, err, nobody)
		} else {
			require.NoError(t, err)
		}
	}
	for range each {
		receive(t, messages).Ack()
	}
	// It is worth trying again once there is a consumer.
	late := subscribe(t, broker, nobody, nil)
	require.NoError(t, publisher.Publish(nobody, newMessage("late")))
	receive(t, late).Ack()
}

// Readers that are told of beforehand miss nothing, in one queue or in partitions, and
// find the queue that they would make themselves.
func TestReadersThatStartLater(t *testing.T) {
	for _, partitions := range []int{0, 2} {
		topic, unknown := newTopic(t), newTopic(t)
		broker := opened(t, func(c *rabbitmq.Config) {
			c.Partitions, c.MaxDeliveries, c.Readers = partitions, 7, map[string][]string{topic: {"group", "other"}}
		})
		require.NoError(t, broker.Publisher().Publish(topic, newMessage("early")))
		for _, group := range []string{"group", "other"} {
			messages := subscribe(t, broker, topic, func(s *adapters.Subscription) { s.Group, s.MaxDeliveries = group, 7 })
			msg := receive(t, messages)
			require.Equal(t, "payload of early", string(msg.Payload))
			msg.Ack()
		}
		require.Empty(t, broker.Check(t.Context()))

		findings := broker.CheckOutputs(t.Context(), []string{topic, unknown})
		require.Len(t, findings, 2)
		require.True(t, findings[0].OK())
		require.False(t, findings[1].OK())
		require.False(t, findings[1].Fatal)
		require.Contains(t, findings[1].Fix, "rabbitmq.readers")
	}
}

// A dead letter finds a queue even when nobody reads its topic.
func TestDeadLettersAreKept(t *testing.T) {
	broker, topic := opened(t, nil), newTopic(t)
	letter := newMessage("dead")
	letter.Metadata.Set(dedup.MetaDeadReason, "permanent")
	require.NoError(t, broker.Publisher().Publish(topic, letter))
	got, found, err := raw(t).Get(topic, true)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, "dead", got.MessageId)
}

func TestWhatCannotBePublished(t *testing.T) {
	broker := opened(t, func(c *rabbitmq.Config) { c.MaxPayload = 100 })
	topic := newTopic(t)
	subscribe(t, broker, topic, nil)
	large, wide, named := newMessage("a"), newMessage("b"), newMessage("c")
	large.Payload = make([]byte, 101)
	wide.Metadata.Set("wide", strings.Repeat("x", 200<<10))
	named.Metadata.Set(strings.Repeat("n", 256), "x")
	for _, msg := range []*message.Message{large, wide, named} {
		require.ErrorIs(t, broker.Publisher().Publish(topic, msg), dedup.ErrBadOutput, msg.UUID)
	}
	for _, name := range []string{"", "amq.topic", strings.Repeat("x", 256)} {
		require.ErrorIs(t, broker.Publisher().Publish(name, newMessage("d")), dedup.ErrBadOutput, name)
	}
	// None of that has harmed the channel.
	require.NoError(t, broker.Publisher().Publish(topic, newMessage("e")))
}

// A queue that refuses (reject-publish, full) is a nack.
func TestRefusedPublish(t *testing.T) {
	broker, topic := opened(t, nil), newTopic(t)
	channel := raw(t)
	require.NoError(t, channel.ExchangeDeclare(topic, "fanout", true, false, false, false, nil))
	_, err := channel.QueueDeclare(topic+".full", true, false, false, false, amqp.Table{"x-max-length": 1, "x-overflow": "reject-publish"})
	require.NoError(t, err)
	require.NoError(t, channel.QueueBind(topic+".full", "", topic, false, nil))
	var refused error
	for i := 0; i < 100 && refused == nil; i++ {
		refused = broker.Publisher().Publish(topic, newMessage(fmt.Sprint(i)))
	}
	require.ErrorContains(t, refused, "refused")
}

// Publishes go on after the connection was lost, and so do consumers; deliveries
// of the old connection are fenced.
func TestReconnects(t *testing.T) {
	broker, topic := opened(t, nil), newTopic(t)
	messages := subscribe(t, broker, topic, nil)
	require.NoError(t, broker.Publisher().Publish(topic, newMessage("held"), newMessage("other")))
	held, other := receive(t, messages), receive(t, messages)
	broker.Cut()
	for _, msg := range []*message.Message{held, other} {
		select {
		case <-msg.Context().Done():
		case <-time.After(10 * time.Second):
			require.Fail(t, "the context of a delivery of the lost connection goes on")
		}
	}
	held.Ack()   // too late; on the new channel its tag is another message's
	other.Nack() // it is not handed out from memory, but by the server
	seen := map[string]int{}
	for len(seen) < 2 {
		msg := receive(t, messages)
		require.Equal(t, 2, adapters.DeliveryFrom(msg.Context()).Attempt)
		seen[msg.UUID]++
		msg.Ack()
	}
	require.Equal(t, map[string]int{"uuid-held": 1, "uuid-other": 1}, seen)
	require.Eventually(t, func() bool { return broker.Publisher().Publish(topic, newMessage("after")) == nil }, 10*time.Second, time.Millisecond)
	receive(t, messages).Ack()
	require.NoError(t, broker.Ping(t.Context()))
}

// That the connection was lost is noticed while the window is full, and nobody looks
// for more messages.
func TestLossWhileTheWindowIsFull(t *testing.T) {
	t.Parallel()
	for name, partitions := range map[string]int{"one queue": 0, "partitions": 2} {
		t.Run(name, func(t *testing.T) {
			topic := newTopic(t)
			broker := opened(t, func(c *rabbitmq.Config) { c.Partitions, c.Prefetch = partitions, 10 })
			messages := subscribe(t, broker, topic, func(s *adapters.Subscription) { s.Window = 2 })
			left := map[string]bool{}
			var batch []*message.Message
			for i := range 20 {
				batch = append(batch, newMessage(fmt.Sprint(i)))
				left[batch[i].UUID] = true
			}
			require.NoError(t, broker.Publisher().Publish(topic, batch...))
			held := []*message.Message{receive(t, messages), receive(t, messages)}
			require.Eventually(t, func() bool {
				depth, err := broker.Depth(t.Context(), topic, adapters.Subscription{Group: "group"})
				return err == nil && depth.Ready <= 10
			}, 10*time.Second, 10*time.Millisecond, "no more is sent than fits into the window")
			broker.Cut()
			for _, msg := range held {
				select {
				case <-msg.Context().Done():
				case <-time.After(10 * time.Second):
					require.FailNow(t, "the context of a delivery of the lost connection goes on")
				}
				msg.Nack()
			}
			for len(left) > 0 {
				msg := receive(t, messages)
				delete(left, msg.UUID)
				msg.Ack()
			}
		})
	}
}

// A slow message does not keep those behind it from being acknowledged, or the
// prefetch window would fill up.
func TestSlowMessageHoldsNobodyUp(t *testing.T) {
	broker, topic := opened(t, nil), newTopic(t)
	messages := subscribe(t, broker, topic, func(s *adapters.Subscription) { s.Window = 10 })
	batch := make([]*message.Message, 100)
	for i := range batch {
		batch[i] = newMessage(fmt.Sprint(i))
	}
	require.NoError(t, broker.Publisher().Publish(topic, batch...))
	slow := receive(t, messages)
	for range 99 {
		receive(t, messages).Ack()
	}
	require.NoError(t, slow.Context().Err())
	slow.Ack()
	require.NoError(t, broker.Publisher().Publish(topic, newMessage("last")))
	receive(t, messages).Ack()
}

// The queue of a reader that is to start later was deleted. Nobody but its publisher can
// make it again.
func TestQueueOfAReaderIsMadeAgain(t *testing.T) {
	t.Parallel()
	topic := newTopic(t)
	broker := opened(t, func(c *rabbitmq.Config) { c.Channels, c.Readers = 1, map[string][]string{topic: {"group"}} })
	publish := func(id string) error { return broker.Publisher().Publish(topic, newMessage(id)) }
	require.NoError(t, publish("before"))
	_, err := raw(t).QueueDelete(topic+"_group", false, false, false)
	require.NoError(t, err)
	require.ErrorIs(t, publish("lost"), rabbitmq.ErrUnroutable)
	require.NoError(t, publish("after"))
	msg := receive(t, subscribe(t, broker, topic, nil))
	require.Equal(t, "after", msg.Metadata.Get(dedup.MetaEventID))
	msg.Ack()
}

// A reader that is told of beforehand has made its queue by its own config, which need not
// be the publisher's. It is the reader's, who gets what is published.
func TestReaderWithAnotherConfig(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]func(*rabbitmq.Config){
		"not one at a time": func(*rabbitmq.Config) {},
		"classic":           func(c *rabbitmq.Config) { c.QueueType = rabbitmq.Classic },
		"partitions":        func(c *rabbitmq.Config) { c.Partitions = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			topic := newTopic(t)
			reader := opened(t, other)
			messages := subscribe(t, reader, topic, nil)
			broker := opened(t, func(c *rabbitmq.Config) {
				if c.SingleActiveConsumer = true; name == "partitions" {
					c.Partitions = 2
				}
				c.Readers = map[string][]string{topic: {"group"}}
			})
			require.NoError(t, broker.Publisher().Publish(topic, newMessage("event")))
			receive(t, messages).Ack()
		})
	}
}

// A reader has partitions by its own config, and by its publisher's none, or the other way
// round. It has its queues, and others would fill up: nobody reads them.
func TestReaderInOtherQueues(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reader, publisher int
		unordered         bool
		others            []string
	}{
		"only the reader has partitions":    {reader: 2, others: []string{"_group"}},
		"only the publisher has partitions": {publisher: 2, others: []string{"%partition-0_group", "%members_group"}},
		"the reader wants no order":         {reader: 2, publisher: 2, unordered: true, others: []string{"%partition-0_group", "%members_group"}},
	} {
		t.Run(name, func(t *testing.T) {
			topic := newTopic(t)
			messages := subscribe(t, opened(t, func(config *rabbitmq.Config) { config.Partitions = c.reader }), topic, func(s *adapters.Subscription) {
				if c.unordered {
					s.Ordering = adapters.Unordered
				}
			})
			broker := opened(t, func(config *rabbitmq.Config) {
				config.Partitions, config.Readers = c.publisher, map[string][]string{topic: {"group"}}
			})
			require.NoError(t, broker.Publisher().Publish(topic, newMessage("event")))
			receive(t, messages).Ack()
			for _, other := range c.others {
				_, err := raw(t).QueueDeclarePassive(topic+other, true, false, false, false, nil)
				var refused *amqp.Error
				require.ErrorAs(t, err, &refused, "queue %s", topic+other)
				require.Equal(t, amqp.NotFound, refused.Code)
			}
		})
	}
}
