package kafka_test

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
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
	"github.com/hapax-go/hapax/internal/fault"
)

// A consumer that stands still while the group rebalances wakes to that news, asks to
// join, and only then learns that it is no member any more. It gets a new member ID
// and the partition it had; what another owner did in between it has to read.
func TestMemberThatWasForgotten(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	require.NoError(t, err)
	defer cluster.Close()
	brokers := cluster.ListenAddrs()
	config := fast(brokers)
	config.Partitions = 1
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	o := order{Name: "one", Input: newTopic(t), Group: "group", Brokers: brokers}
	o.Output = o.Input + ".out"
	maker, err := broker.Subscriber(adapters.Subscription{Group: "maker"})
	require.NoError(t, err)
	for _, topic := range []string{o.Input, o.Output} {
		require.NoError(t, maker.(message.SubscribeInitializer).SubscribeInitialize(topic))
	}
	r := newReader(t, brokers, o.Output)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- service(ctx, o, func(fault.Delivery) {}) }()
	defer func() { stop(); require.NoError(t, <-ended) }()
	publish := func(id string) {
		payload, err := json.Marshal(fault.Event{ID: id, Key: id})
		require.NoError(t, err)
		msg := message.NewMessage(id, payload)
		msg.Metadata.Set(dedup.MetaEventID, id)
		require.NoError(t, broker.Publisher().Publish(o.Input, msg))
	}
	publish("before")
	require.Eventually(t, func() bool { return r.count() == 1 }, 20*time.Second, 5*time.Millisecond)

	// What the owner in between does is what it logs.
	other, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	defer other.Close()
	require.NoError(t, other.ProduceSync(t.Context(), &kgo.Record{
		Topic: kafka.IDLogName(o.Group, o.Input), Value: kafka.LogOf(dedup.Scope{Service: "test", Handler: o.Group}, "meanwhile"),
	}).FirstErr())
	// This fake does not forget the member: it is the answers that say so, and until
	// the consumer has read them, it could commit as the member it was. Its next
	// attempt to join, as nobody yet, says that it has.
	forgotten := make(chan struct{})
	cluster.ControlKey(kmsg.Heartbeat.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		answer := request.ResponseKind().(*kmsg.HeartbeatResponse)
		answer.ErrorCode = kerr.RebalanceInProgress.Code
		return answer, nil, true
	})
	cluster.ControlKey(kmsg.JoinGroup.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		member := request.(*kmsg.JoinGroupRequest).MemberID
		if member == "" {
			cluster.DropControl()
			close(forgotten)
			return nil, nil, false
		}
		cluster.KeepControl()
		answer := request.ResponseKind().(*kmsg.JoinGroupResponse)
		answer.ErrorCode = kerr.UnknownMemberID.Code
		return answer, nil, true
	})
	select {
	case <-forgotten:
	case <-time.After(20 * time.Second):
		require.Fail(t, "the consumer did not ask to join as a new member")
	}
	publish("meanwhile")
	publish("after")
	require.Eventually(t, func() bool {
		for _, effect := range r.effects() {
			if effect.ID == "after" {
				return true
			}
		}
		return false
	}, 20*time.Second, 5*time.Millisecond)
	for _, effect := range r.effects() {
		require.NotEqual(t, "meanwhile", effect.ID, "what another owner processed took effect again")
	}
}

// A consumer is given another member ID while its window is full, and finds that out when
// it commits. Nothing else comes to poll, which was waiting for a place in the window.
func TestForgottenWithAFullWindow(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	require.NoError(t, err)
	defer cluster.Close()
	config := fast(cluster.ListenAddrs())
	config.Partitions = 1
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	topic, scope := newTopic(t), dedup.Scope{Service: "test", Handler: "handler"}
	strategy, err := broker.Strategy(dedup.StrategyTransaction, adapters.StrategyOptions{Scope: scope, Group: "group", Window: time.Hour})
	require.NoError(t, err)
	once, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy})
	require.NoError(t, err)
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", Window: 1, DrainTimeout: time.Second, MaxDeliveries: -1})
	require.NoError(t, err)
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	require.NoError(t, err)
	handling, forgotten := make(chan struct{}), make(chan struct{})
	var calls atomic.Int64
	router.AddConsumerHandler("handler", topic, subscriber, func(msg *message.Message) error {
		switch calls.Add(1) {
		case 1:
			close(handling)
			<-forgotten
		case 2: // keeps the third from the window, as long as the partition is there
			<-msg.Context().Done()
		}
		return msg.Context().Err()
	}).AddMiddleware(once.Wrap)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- router.Run(ctx) }()
	defer func() { stop(); require.NoError(t, <-ended) }()
	<-router.Running()
	var events []*message.Message
	for _, id := range []string{"one", "two", "three"} {
		event := message.NewMessage(id, []byte("{}"))
		event.Metadata.Set(dedup.MetaEventID, id)
		events = append(events, event)
	}
	require.NoError(t, broker.Publisher().Publish(topic, events...))
	await(t, handling, "nothing is handled")

	cluster.ControlKey(kmsg.Heartbeat.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		answer := request.ResponseKind().(*kmsg.HeartbeatResponse)
		answer.ErrorCode = kerr.RebalanceInProgress.Code
		return answer, nil, true
	})
	cluster.ControlKey(kmsg.JoinGroup.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		answer := request.ResponseKind().(*kmsg.JoinGroupResponse)
		answer.ErrorCode = kerr.UnknownMemberID.Code
		return answer, nil, true
	})
	known := sync.OnceFunc(func() { close(forgotten) })
	cluster.ControlKey(kmsg.SyncGroup.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		known() // its new ID
		return nil, nil, false
	})
	require.Eventually(t, func() bool {
		lag, err := broker.Lag(t.Context(), "group", topic)
		return err == nil && lag == 0
	}, 20*time.Second, 10*time.Millisecond, "the consumer stands still")
}
