package rabbitmq_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
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

func TestQueueThatDiffers(t *testing.T) {
	topic := newTopic(t)
	classic := opened(t, func(c *rabbitmq.Config) { c.QueueType = rabbitmq.Classic })
	subscribe(t, classic, topic, nil)
	broker := opened(t, nil)
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group"})
	require.NoError(t, err)
	_, err = subscriber.Subscribe(t.Context(), topic)
	require.ErrorContains(t, err, "not of type quorum")
	require.ErrorContains(t, err, "rabbitmq.queue_type")

	// Another limit is no reason to stand still.
	topic = newTopic(t)
	subscribe(t, broker, topic, func(s *adapters.Subscription) { s.MaxDeliveries = 3 })
	messages := subscribe(t, broker, topic, func(s *adapters.Subscription) { s.MaxDeliveries = 4 })
	require.NotNil(t, messages)
	findings := broker.Check(t.Context())
	require.Len(t, findings, 1)
	require.Equal(t, "rabbitmq-queue-differs", findings[0].Name)
	require.Contains(t, findings[0].Problem, "x-delivery-limit")
}

// A queue that drops messages is found, and refused unless that is allowed: the one of a
// group as well as any of its partitions.
func TestQueueThatLosesMessages(t *testing.T) {
	t.Parallel()
	const lengths = "x-max-length=1: it drops messages that nobody has processed"
	for name, test := range map[string]struct {
		variant    string
		partitions int
		limit      string
		value      int
		want       string
	}{
		"one queue":                          {"_group", 0, "x-max-length", 1, lengths},
		"a partition":                        {"%partition-1_group", 2, "x-max-length", 1, lengths},
		"what came back, with nowhere to go": {"_group", 0, "x-delivery-limit", 3, "x-delivery-limit=3 and no x-dead-letter-exchange: it drops messages"},
		"what came back too often for the service too": {"_group", 0, "x-delivery-limit", 20, "x-delivery-limit=20 and no x-dead-letter-exchange: it drops messages"},
	} {
		t.Run(name, func(t *testing.T) {
			topic, config := newTopic(t), partitioned(test.partitions, "")
			queue := topic + test.variant
			_, err := raw(t).QueueDeclare(queue, true, false, false, false, amqp.Table{"x-queue-type": "quorum", test.limit: test.value, "x-single-active-consumer": true})
			require.NoError(t, err)
			broker := opened(t, config)
			findings := broker.Checks(t.Context(), []adapters.Use{{Topic: topic, Group: "group", Strategy: dedup.StrategyNone}})
			limits := slices.IndexFunc(findings, func(f adapters.Finding) bool { return f.Name == rabbitmq.FindingLimits })
			require.GreaterOrEqual(t, limits, 0, "%+v", findings)
			require.True(t, findings[limits].Fatal)
			require.Equal(t, queue, findings[limits].About)
			require.Contains(t, findings[limits].Problem, test.want)

			subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group"})
			require.NoError(t, err)
			_, err = subscriber.Subscribe(t.Context(), topic)
			require.ErrorContains(t, err, test.want)
			require.ErrorContains(t, err, queue)
			subscribe(t, opened(t, func(c *rabbitmq.Config) { config(c); c.AllowLimits = true }), topic, nil)
		})
	}
}

// Order across members is not promised on a queue from before it was asked for, which
// deals equal keys to several members at once.
func TestOrderOnQueueWithoutIt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config   func(*rabbitmq.Config)
		ordering adapters.Ordering
	}{
		"ordering: partition":    {ordering: adapters.OrderByPartition},
		"single_active_consumer": {func(c *rabbitmq.Config) { c.SingleActiveConsumer = true }, adapters.OrderByKey},
	} {
		t.Run(name, func(t *testing.T) {
			topic, former := newTopic(t), open(t, nil)
			subscribe(t, former, topic, nil)
			require.NoError(t, former.Close())

			broker := opened(t, test.config)
			subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", Ordering: test.ordering, MaxDeliveries: -1})
			require.NoError(t, err)
			_, err = subscriber.Subscribe(t.Context(), topic)
			require.ErrorContains(t, err, "has no single active consumer")
			require.ErrorContains(t, err, "received the value 'true' of type 'bool' but current is none")
			require.ErrorContains(t, err, "delete it")
			findings := broker.Checks(t.Context(), []adapters.Use{{Topic: topic, Group: "group", Ordering: test.ordering, MaxDeliveries: -1, Strategy: dedup.StrategyNone}})
			require.Len(t, findings, 1)
			require.Equal(t, "rabbitmq-queue-order", findings[0].Name)
			require.True(t, findings[0].Fatal)
			require.Contains(t, findings[0].Problem, "has no single active consumer")
			require.Contains(t, findings[0].Fix, "delete it")
		})
	}
}

// With one active consumer, keys stay in order across members, while one after
// the other leaves.
func TestSingleActiveConsumerKeepsOrder(t *testing.T) {
	topic := newTopic(t)
	single := func(c *rabbitmq.Config) { c.SingleActiveConsumer = true }
	broker := opened(t, single)
	require.True(t, broker.Capabilities().OrderAcrossConsumers)
	const keys, each, members = 10, 60, 3
	acked := make(chan *message.Message, keys*each)
	subscribers := make([]message.Subscriber, members)
	for i := range subscribers {
		var err error
		subscribers[i], err = opened(t, single).Subscriber(adapters.Subscription{Group: "group", Window: 30})
		require.NoError(t, err)
		messages, err := subscribers[i].Subscribe(t.Context(), topic)
		require.NoError(t, err)
		go func() {
			for msg := range messages {
				acked <- msg
				msg.Ack()
			}
		}()
	}
	var batch []*message.Message
	for i := range keys * each {
		msg := newMessage(strconv.Itoa(i))
		msg.Metadata.Set(dedup.MetaKey, fmt.Sprint("key-", i%keys))
		batch = append(batch, msg)
	}
	require.NoError(t, broker.Publisher().Publish(topic, batch...))
	last := map[string]int{}
	for n := range keys * each {
		if n > 0 && n%200 == 0 {
			go func() { _ = subscribers[n/200-1].Close() }()
		}
		var msg *message.Message
		select {
		case msg = <-acked:
		case <-time.After(20 * time.Second):
			require.FailNow(t, "too few messages", "%d", n)
		}
		key := msg.Metadata.Get(dedup.MetaKey)
		number, _ := strconv.Atoi(msg.Metadata.Get(dedup.MetaEventID))
		require.GreaterOrEqual(t, number, last[key], key)
		last[key] = number
	}
}

func TestRefusedConnections(t *testing.T) {
	const secret = "s3cr3t"
	for name, test := range map[string]struct{ url, want string }{
		"no url":         {"", "rabbitmq.url"},
		"not a url":      {"amqp://user:" + secret + "@host:port:1/%zz", "not a valid URL"},
		"nobody listens": {"amqp://user:" + secret + "@127.0.0.1:1/", "is the server up"},
		"wrong password": {"amqp://user:" + secret + "@" + host(t) + "/", "check user and password"},
		"no such vhost":  {withVHost(t, "nowhere"), "virtual host"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := rabbitmq.Open(context.Background(), rabbitmq.Config{URL: test.url, Logger: quiet})
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), secret)
			require.NotContains(t, err.Error(), "hapax:hapax")
		})
	}
}

func TestCheckWarns(t *testing.T) {
	broker := opened(t, func(c *rabbitmq.Config) {
		c.DedupWindow, c.HandlerTimeout = time.Hour, time.Hour
		c.QueueType = rabbitmq.Classic
	})
	names := map[string]bool{}
	for _, finding := range broker.Check(t.Context()) {
		names[finding.Name] = true
		require.False(t, finding.Fatal)
		require.NotEmpty(t, finding.Fix)
	}
	require.Equal(t, map[string]bool{"rabbitmq-window-too-short": true, "rabbitmq-handler-timeout": true, "rabbitmq-classic-queues": true}, names)
}

func host(t *testing.T) string { return servers.Require(t, servers.RabbitMQ).Hosts[0] }

func withVHost(t *testing.T, name string) string {
	return strings.TrimSuffix(servers.Require(t, servers.RabbitMQ).URL, "/") + "/" + name
}
