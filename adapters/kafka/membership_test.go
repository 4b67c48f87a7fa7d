package kafka_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/dedup"
)

// standstill is a group whose rebalances one of its members holds up, for longer than
// a test lasts.
type standstill struct {
	cluster *kfake.Cluster
	config  kafka.Config // of the consumer in the test
	broker  *kafka.Broker
	topic   string
	group   string
	holder  *kgo.Client
}

func newStandstill(t *testing.T, change func(*kafka.Config)) *standstill {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	s := &standstill{cluster: cluster, config: fast(cluster.ListenAddrs()), topic: newTopic(t), group: "group"}
	s.config.Partitions, s.config.ClientID = 4, "tested"
	s.config.SessionTimeout, s.config.RebalanceTimeout = 20*time.Second, 2*time.Minute
	if change != nil {
		change(&s.config)
	}
	s.broker, err = kafka.Open(t.Context(), s.config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.broker.Close()) })
	maker, err := s.broker.Subscriber(adapters.Subscription{Group: "maker"})
	require.NoError(t, err)
	require.NoError(t, maker.(message.SubscribeInitializer).SubscribeInitialize(s.topic))
	return s
}

// hold adds a member that takes messages and does not come back for more: from then
// on it joins no rebalance.
func (s *standstill) hold(t *testing.T) {
	t.Helper()
	assigned := make(chan struct{}, 1)
	s.holder = s.member(t, "holder", kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, added map[string][]int32) {
		if len(added) > 0 {
			assigned <- struct{}{}
		}
	}))
	await(t, assigned, "the holder was given no partition")
	s.publish(t, 0, 100)
	for s.holder.PollFetches(within(t, 20*time.Second)).NumRecords() == 0 {
		require.NoError(t, t.Context().Err())
		s.holder.AllowRebalance()
	}
}

// begin brings the standstill about, beside a consumer that is in the group already. It
// returns when the group has a third member to let in, and the consumer has asked to
// join too.
func (s *standstill) begin(t *testing.T) {
	t.Helper()
	s.hold(t)
	asked := s.joins("tested")
	s.member(t, "third")
	await(t, asked, "the consumer did not ask to join")
}

func (s *standstill) member(t *testing.T, name string, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(s.cluster.ListenAddrs()...), kgo.ClientID(name), kgo.ConsumerGroup(s.group), kgo.ConsumeTopics(s.topic),
		kgo.BlockRebalanceOnPoll(), kgo.DisableAutoCommit(), kgo.Balancers(kgo.CooperativeStickyBalancer()), kgo.HeartbeatInterval(100 * time.Millisecond),
		kgo.SessionTimeout(s.config.SessionTimeout), kgo.RebalanceTimeout(s.config.RebalanceTimeout),
	}, options...)...)
	require.NoError(t, err)
	t.Cleanup(func() {
		s.holder.AllowRebalance() // else this one does not get out
		client.CloseAllowingRebalance()
	})
	return client
}

// joins tells when a client asks to join the group under the ID of a member.
func (s *standstill) joins(client string) <-chan struct{} {
	asked := make(chan struct{})
	once := sync.OnceFunc(func() { close(asked) })
	s.cluster.ControlKey(kmsg.JoinGroup.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		s.cluster.KeepControl()
		if strings.HasPrefix(request.(*kmsg.JoinGroupRequest).MemberID, client) {
			once()
		}
		return nil, nil, false
	})
	return asked
}

// publish sends events with a key of their own each, so that they go to all
// partitions.
func (s *standstill) publish(t *testing.T, from, to int) {
	t.Helper()
	var events []*message.Message
	for i := range to - from {
		id := fmt.Sprint(from + i)
		event := message.NewMessage(id, []byte(fmt.Sprintf(`{"id":%q,"key":%q}`, id, id)))
		event.Metadata.Set(dedup.MetaEventID, id)
		event.Metadata.Set(dedup.MetaKey, id)
		events = append(events, event)
	}
	require.NoError(t, s.broker.Publisher().Publish(s.topic, events...))
}

// subscribe starts the consumer; it acknowledges everything.
func (s *standstill) subscribe(t *testing.T) message.Subscriber {
	t.Helper()
	subscriber, err := s.broker.Subscriber(adapters.Subscription{Group: s.group, DrainTimeout: time.Second, MaxDeliveries: -1})
	require.NoError(t, err)
	messages, err := subscriber.Subscribe(t.Context(), s.topic)
	require.NoError(t, err)
	go func() {
		for msg := range messages {
			msg.Ack()
		}
	}()
	return subscriber
}

// requireLeaves closes the consumer, and wants it out of the group then, except for a
// member that only the test has declared dead.
func (s *standstill) requireLeaves(t *testing.T, subscriber message.Subscriber, dead ...string) {
	t.Helper()
	closed := make(chan error, 1)
	go func() { closed <- subscriber.Close() }()
	select {
	case err := <-closed:
		require.NoError(t, err)
	case <-within(t, 30*time.Second).Done():
		s.holder.AllowRebalance()
		require.Fail(t, "Close waits for another member")
	}
	groups, err := kafka.Admin(s.holder).DescribeGroups(t.Context(), s.group)
	require.NoError(t, err)
	for _, member := range groups[s.group].Members {
		if !slices.Contains(dead, member.MemberID) {
			require.NotEqual(t, "tested", member.ClientID, "the group was not left")
		}
	}
}

func await(t *testing.T, signal <-chan struct{}, otherwise string) {
	t.Helper()
	select {
	case <-signal:
	case <-within(t, 30*time.Second).Done():
		require.Fail(t, otherwise)
	}
}

// A consumer that is told to stop while the group waits for another member waits for
// nobody, and leaves no member behind that partitions are given to.
func TestCloseDuringAnothersRebalance(t *testing.T) {
	t.Parallel()
	s := newStandstill(t, nil)
	subscriber := s.subscribe(t)
	s.begin(t)
	s.requireLeaves(t, subscriber)
}

// The same when the consumer itself has just found out that it has to begin anew.
func TestCloseWhileBeginningAnew(t *testing.T) {
	t.Parallel()
	begins := make(chan struct{}, 1)
	s := newStandstill(t, func(config *kafka.Config) {
		config.Logger = slog.New(listener{"the group took this consumer for gone", begins})
		config.SessionTimeout = 6 * time.Second // the dead member holds up what comes after the test
	})
	subscriber := s.subscribe(t)
	s.hold(t)
	// The group is said to rebalance, and then not to know the member. It joins under a
	// new ID, and goes on with the partitions of the old one, until it looks.
	old := make(chan string, 1)
	s.cluster.ControlKey(kmsg.Heartbeat.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		if !strings.HasPrefix(request.(*kmsg.HeartbeatRequest).MemberID, "tested") {
			s.cluster.KeepControl()
			return nil, nil, false
		}
		answer := request.ResponseKind().(*kmsg.HeartbeatResponse)
		answer.ErrorCode = kerr.RebalanceInProgress.Code
		return answer, nil, true
	})
	s.cluster.ControlKey(kmsg.JoinGroup.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		old <- request.(*kmsg.JoinGroupRequest).MemberID
		answer := request.ResponseKind().(*kmsg.JoinGroupResponse)
		answer.ErrorCode = kerr.UnknownMemberID.Code
		return answer, nil, true
	})
	await(t, s.joins("tested"), "the consumer did not ask to join under its new ID")
	s.publish(t, 100, 200) // something to look at
	await(t, begins, "the consumer does not begin anew")
	s.requireLeaves(t, subscriber, <-old)
}

// listener is a log handler that waits for a message.
type listener struct {
	beginning string
	heard     chan struct{}
}

func (l listener) Enabled(context.Context, slog.Level) bool { return true }
func (l listener) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l listener) WithGroup(string) slog.Handler            { return l }
func (l listener) Handle(_ context.Context, record slog.Record) error {
	if strings.HasPrefix(record.Message, l.beginning) {
		select {
		case l.heard <- struct{}{}:
		default:
		}
	}
	return nil
}

// A rebalance that waits for another member does not stop the transactions on the
// partitions that stay, not even when there are duplicates, whose offsets no transaction
// commits.
func TestTransactionsDuringAnothersRebalance(t *testing.T) {
	t.Parallel()
	s := newStandstill(t, func(config *kafka.Config) { config.SessionTimeout = 90 * time.Second })
	scope := dedup.Scope{Service: "test", Handler: "handler"}
	strategy, err := s.broker.Strategy(dedup.StrategyTransaction, adapters.StrategyOptions{Scope: scope, Group: s.group, Window: time.Hour})
	require.NoError(t, err)
	once, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy})
	require.NoError(t, err)
	subscriber, err := s.broker.Subscriber(adapters.Subscription{Group: s.group, DrainTimeout: time.Second, MaxDeliveries: -1})
	require.NoError(t, err)
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	require.NoError(t, err)
	router.AddConsumerHandler("handler", s.topic, subscriber, func(*message.Message) error { return nil }).AddMiddleware(once.Wrap)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- router.Run(ctx) }()
	defer func() { stop(); require.NoError(t, <-ended) }()
	<-router.Running()
	s.begin(t)

	stats := func() (transactions, pending int64) {
		stats, err := s.broker.Stats(t.Context())
		if err != nil || len(stats.Groups) == 0 {
			return 0, -1
		}
		return stats.Transactions, stats.Groups[0].Pending
	}
	for round := range 20 {
		before, _ := stats()
		for range 2 { // the second time they are duplicates
			s.publish(t, 100+20*round, 120+20*round)
		}
		require.Eventually(t, func() bool {
			transactions, pending := stats()
			return transactions > before && pending == 0
		}, 30*time.Second, 5*time.Millisecond, "no transaction ends")
	}
}
