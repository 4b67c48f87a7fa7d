package rabbitmq_test

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/adaptertest"
	"github.com/hapax-go/hapax/adapters/rabbitmq"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/servers"
)

func partitioned(number int, by rabbitmq.PartitionBy) func(*rabbitmq.Config) {
	return func(c *rabbitmq.Config) { c.Partitions, c.PartitionBy = number, by }
}

func TestSuiteOnPartitions(t *testing.T) {
	t.Parallel()
	adaptertest.Run(t, harness(partitioned(4, rabbitmq.BySlots)))
}

// Three members share the partitions, all of them work, one after the other leaves,
// and every key stays in order.
func TestPartitionsKeepOrder(t *testing.T) {
	t.Parallel()
	for _, by := range []rabbitmq.PartitionBy{rabbitmq.BySlots, rabbitmq.ByConsistentHash} {
		t.Run(string(by), func(t *testing.T) {
			topic, config := newTopic(t), partitioned(6, by)
			producer := opened(t, config)
			const keys, each, members = 30, 60, 3
			type handled struct {
				member int
				msg    *message.Message
			}
			acked := make(chan handled, keys*each)
			subscribers := make([]message.Subscriber, members)
			for i := range subscribers {
				var err error
				subscribers[i], err = opened(t, config).Subscriber(adapters.Subscription{Group: "group", Window: 30, DrainTimeout: 5 * time.Second})
				require.NoError(t, err)
				t.Cleanup(func() { _ = subscribers[i].Close() })
				messages, err := subscribers[i].Subscribe(t.Context(), topic)
				require.NoError(t, err)
				go func() {
					for msg := range messages {
						acked <- handled{i, msg}
						msg.Ack()
					}
				}()
			}
			// Each partition finds its one consumer, and nobody has more than two: then
			// every member works.
			require.Eventually(t, func() bool { return balanced(t, topic, 6, members) }, 30*time.Second, 50*time.Millisecond)

			var batch []*message.Message
			for i := range keys * each {
				msg := newMessage(strconv.Itoa(i))
				msg.Metadata.Set(dedup.MetaKey, fmt.Sprint("key-", i%keys))
				batch = append(batch, msg)
			}
			var leaving sync.WaitGroup
			defer leaving.Wait()
			publish := func(part []*message.Message) { require.NoError(t, producer.Publisher().Publish(topic, part...)) }
			publish(batch[:len(batch)/3])
			last, worked := map[string]int{}, map[int]int{}
			for n := range keys * each {
				if n == len(batch)/3 || n == 2*len(batch)/3 {
					leaving.Go(func() { _ = subscribers[n*members/len(batch)-1].Close() })
					publish(batch[n : n+len(batch)/3])
				}
				var h handled
				select {
				case h = <-acked:
				case <-time.After(20 * time.Second):
					require.FailNow(t, "too few messages", "%d", n)
				}
				worked[h.member]++
				key := h.msg.Metadata.Get(dedup.MetaKey)
				number, _ := strconv.Atoi(h.msg.Metadata.Get(dedup.MetaEventID))
				require.GreaterOrEqual(t, number, last[key], key)
				last[key] = number
			}
			require.Len(t, worked, members, "a member had nothing to do")
		})
	}
}

// balanced reports whether all members are known and each partition has one
// consumer. Until one has given up what is too much for it, another has none.
func balanced(t *testing.T, topic string, partitions, members int) bool {
	conn, err := amqp.Dial(servers.Require(t, servers.RabbitMQ).URL)
	require.NoError(t, err)
	defer conn.Close()
	channel, err := conn.Channel()
	require.NoError(t, err)
	queue, err := channel.QueueDeclarePassive(topic+"%members_group", true, false, false, false, nil)
	require.NoError(t, err)
	if queue.Consumers != members {
		return false
	}
	for i := range partitions {
		queue, err := channel.QueueDeclarePassive(fmt.Sprintf("%s%%partition-%d_group", topic, i), true, false, false, false, nil)
		require.NoError(t, err)
		if queue.Consumers != 1 {
			return false
		}
	}
	return true
}

// What another program publishes, with any routing key, finds a partition.
func TestForeignRoutingKey(t *testing.T) {
	for _, by := range []rabbitmq.PartitionBy{rabbitmq.BySlots, rabbitmq.ByConsistentHash} {
		broker, topic := opened(t, partitioned(4, by)), newTopic(t)
		messages := subscribe(t, broker, topic, nil)
		channel := raw(t)
		for _, key := range []string{"", "anything", "slot.7"} {
			require.NoError(t, channel.Publish(topic, key, true, false, amqp.Publishing{MessageId: "foreign" + key}))
			receive(t, messages).Ack()
		}
	}
}

// Who counts partitions otherwise would get half of the messages, and is refused.
func TestOtherNumberOfPartitions(t *testing.T) {
	topic := newTopic(t)
	subscribe(t, opened(t, partitioned(4, "")), topic, nil)
	subscriber, err := opened(t, partitioned(8, "")).Subscriber(adapters.Subscription{Group: "group"})
	require.NoError(t, err)
	_, err = subscriber.Subscribe(t.Context(), topic)
	require.ErrorContains(t, err, "rabbitmq.partitions, which is 8")
	require.ErrorContains(t, err, "'4'")
}

// A member that closes while it gives a partition up waits for its handlers once, and
// cuts none of them short.
func TestCloseWhileGivingUp(t *testing.T) {
	broker, topic := opened(t, partitioned(2, "")), newTopic(t)
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", DrainTimeout: time.Hour})
	require.NoError(t, err)
	messages, err := subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	var held []*message.Message
	t.Cleanup(func() {
		for _, msg := range held { // or a test that fails would wait for them
			msg.Ack()
		}
	})
	for i := range 20 {
		require.NoError(t, broker.Publisher().Publish(topic, newMessage(strconv.Itoa(i))))
		held = append(held, receive(t, messages))
	}
	channel := raw(t) // another member comes, and has no partition
	for _, queue := range []string{"%members_group", "%wanting_group"} {
		_, err := channel.Consume(topic+queue, "", true, false, false, false, nil)
		require.NoError(t, err)
	}
	among := func(function string) func() bool { return func() bool { return running(function) > 0 } }
	require.Eventually(t, among("rabbitmq.(*session).settle("), 20*time.Second, 10*time.Millisecond, "nothing is given up")
	closed := make(chan error, 1)
	go func() { closed <- subscriber.Close() }()
	require.Eventually(t, among("flow.(*Flow).Drain("), 20*time.Second, 10*time.Millisecond, "it gives up first, and then drains")
	for _, msg := range held {
		require.NoError(t, msg.Context().Err())
		msg.Ack()
	}
	require.NoError(t, <-closed)
}

// Checks, depth and figures are of the queues that a group has.
func TestPartitionsAreLookedAt(t *testing.T) {
	t.Parallel()
	broker, topic := opened(t, partitioned(4, "")), newTopic(t)
	subscription := adapters.Subscription{Group: "group"}
	use := adapters.Use{Topic: topic, Group: subscription.Group, Strategy: dedup.StrategyNone}
	subscriber, err := broker.Subscriber(subscription)
	require.NoError(t, err)
	require.NoError(t, subscriber.(message.SubscribeInitializer).SubscribeInitialize(topic))
	for i := range 10 {
		require.NoError(t, broker.Publisher().Publish(topic, newMessage(strconv.Itoa(i))))
	}
	require.Eventually(t, func() bool {
		depth, err := broker.Depth(t.Context(), topic, subscription)
		return err == nil && depth.Ready == 10 // quorum queues count a little later than they confirm
	}, 10*time.Second, 10*time.Millisecond)
	findings := broker.Checks(t.Context(), []adapters.Use{use})
	require.Len(t, findings, 4)
	for i, finding := range findings {
		require.Equal(t, fmt.Sprintf("%s%%partition-%d_group", topic, i), finding.About)
		require.Equal(t, "quorum, no limits that lose messages", finding.Found)
	}

	subscribe(t, broker, topic, nil)
	figures, err := broker.Figures(t.Context(), []adapters.Use{use})
	require.NoError(t, err)
	members := slices.IndexFunc(figures, func(f adapters.Figure) bool { return f.Name == adapters.FigureConsumers })
	require.Equal(t, 1.0, figures[members].Value)

	// Without order the group has one queue.
	use.Ordering = adapters.Unordered
	findings = broker.Checks(t.Context(), []adapters.Use{use})
	require.Len(t, findings, 1)
	require.Equal(t, topic+"_group", findings[0].About)
}

// What is left of the group's queues when partitions come, or go, is named: it gets a
// copy of every message, and holds what nobody has processed.
func TestLeftoverQueues(t *testing.T) {
	for name, settings := range map[string][2]int{"before partitions": {0, 4}, "after partitions": {4, 0}} {
		t.Run(name, func(t *testing.T) {
			topic := newTopic(t)
			former := open(t, partitioned(settings[0], ""))
			messages := subscribe(t, former, topic, nil)
			require.Empty(t, former.Check(t.Context()))
			require.NoError(t, former.Publisher().Publish(topic, newMessage("held")))
			receive(t, messages)
			require.NoError(t, former.Close())

			broker := opened(t, partitioned(settings[1], ""))
			subscribe(t, broker, topic, nil)
			findings := broker.Check(t.Context())
			require.Len(t, findings, 1)
			require.Equal(t, "rabbitmq-queue-left-over", findings[0].Name)
			require.Contains(t, findings[0].Problem, topic)
			require.False(t, findings[0].Fatal)
		})
	}
}
