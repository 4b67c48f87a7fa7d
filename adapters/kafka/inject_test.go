package kafka_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/internal/fault"
)

// A commit that is not answered until the transaction's time is over is looked up,
// and its consumer goes on.
func TestCommitOutOfTime(t *testing.T) {
	t.Parallel()
	handledInSpiteOf(t, kmsg.EndTxn, 1.5, func(request kmsg.Request) kmsg.Response {
		answer := request.ResponseKind().(*kmsg.EndTxnResponse)
		answer.ErrorCode = kerr.CoordinatorLoadInProgress.Code
		return answer
	})
}

// A rebalance takes longer than a transaction may, as when the member that is to divide the
// partitions dies: this one keeps its partitions, and what was acked already is committed.
func TestRebalanceOutlastsATransaction(t *testing.T) {
	t.Parallel()
	handledInSpiteOf(t, kmsg.TxnOffsetCommit, 1.25, func(request kmsg.Request) kmsg.Response {
		return refuseOffsets(request.(*kmsg.TxnOffsetCommitRequest), kerr.RebalanceInProgress)
	})
}

// handledInSpiteOf runs a consumer on a broker that refuses requests of a kind, from the first
// one on, for so many times as long as a transaction may take.
func handledInSpiteOf(t *testing.T, kind kmsg.Key, times float64, refusal func(kmsg.Request) kmsg.Response) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	require.NoError(t, err)
	defer cluster.Close()
	config := fast(cluster.ListenAddrs())
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	o := order{Name: "one", Input: newTopic(t), Group: "group", Brokers: cluster.ListenAddrs()}
	o.Output = o.Input + ".out"
	sent := &fault.Sent{}
	require.NoError(t, send(broker.Publisher(), o.Input, fault.Workload{Seed: 21, Events: 20}, sent))
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "maker"})
	require.NoError(t, err)
	require.NoError(t, subscriber.(message.SubscribeInitializer).SubscribeInitialize(o.Output))
	limit := time.Duration(times * float64(config.TransactionTimeout))
	var first atomic.Int64
	cluster.ControlKey(kind.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		first.CompareAndSwap(0, time.Now().UnixNano())
		if time.Since(time.Unix(0, first.Load())) > limit {
			return nil, nil, false
		}
		return refusal(request), nil, true
	})
	r := newReader(t, cluster.ListenAddrs(), o.Output)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- service(ctx, o, func(fault.Delivery) {}) }()
	defer func() { stop(); require.NoError(t, <-ended) }()
	require.Eventually(t, func() bool { return r.count() >= 20 }, 20*time.Second, 10*time.Millisecond, "events are never handled again")
	require.NoError(t, fault.Check(fault.Observation{Expected: sent.Expected(), Effects: r.effects(), Left: map[string]int64{}, MayNotRedeliver: true}).Err())
}

// refuseProduce says of every partition of a request why it takes no record.
func refuseProduce(request *kmsg.ProduceRequest, why *kerr.Error) kmsg.Response {
	answer := request.ResponseKind().(*kmsg.ProduceResponse)
	for _, topic := range request.Topics {
		answered := kmsg.NewProduceResponseTopic()
		answered.Topic, answered.TopicID = topic.Topic, topic.TopicID
		for _, partition := range topic.Partitions {
			part := kmsg.NewProduceResponseTopicPartition()
			part.Partition, part.ErrorCode = partition.Partition, why.Code
			answered.Partitions = append(answered.Partitions, part)
		}
		answer.Topics = append(answer.Topics, answered)
	}
	return answer
}

func refuseOffsets(request *kmsg.TxnOffsetCommitRequest, why *kerr.Error) kmsg.Response {
	answer := request.ResponseKind().(*kmsg.TxnOffsetCommitResponse)
	for _, topic := range request.Topics {
		answered := kmsg.NewTxnOffsetCommitResponseTopic()
		answered.Topic = topic.Topic
		for _, partition := range topic.Partitions {
			part := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			part.Partition, part.ErrorCode = partition.Partition, why.Code
			answered.Partitions = append(answered.Partitions, part)
		}
		answer.Topics = append(answer.Topics, answered)
	}
	return answer
}

// A transaction of four messages is aborted, and the next one has two of them: killed behind
// it, the consumer would lose the others if their offsets were committed already.
func TestOffsetsOfAnAbortedTransaction(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	require.NoError(t, err)
	defer cluster.Close()
	config := fast(cluster.ListenAddrs())
	config.Partitions = 1
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	o := order{Name: "one", Input: newTopic(t), Group: "group", Brokers: cluster.ListenAddrs(), MaxTime: 500 * time.Millisecond}
	o.Output = o.Input + ".out"
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "maker"})
	require.NoError(t, err)
	for _, topic := range []string{o.Input, o.Output} {
		require.NoError(t, subscriber.(message.SubscribeInitializer).SubscribeInitialize(topic))
	}
	require.NoError(t, send(broker.Publisher(), o.Input, fault.Workload{Seed: 25, Events: 4, Keys: 1000}, &fault.Sent{}))
	offsets := make(chan int64, 100)
	refused := false
	cluster.ControlKey(kmsg.TxnOffsetCommit.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		commit := request.(*kmsg.TxnOffsetCommitRequest)
		offsets <- commit.Topics[0].Partitions[0].Offset
		if refused {
			return nil, nil, false
		}
		refused = true
		return refuseOffsets(commit, kerr.GroupAuthorizationFailed), nil, true
	})
	var all sync.WaitGroup // the handlers end together, so that one transaction has them all
	all.Add(4)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- service(ctx, o, func(fault.Delivery) { all.Done(); all.Wait() }) }()
	defer func() { stop(); require.NoError(t, <-ended) }()
	next := func() int64 {
		select {
		case offset := <-offsets:
			return offset
		case <-within(t, 20*time.Second).Done():
			require.FailNow(t, "the messages are not committed")
			return 0
		}
	}
	require.EqualValues(t, 4, next(), "one transaction does not have them all")
	require.LessOrEqual(t, next(), int64(2)) // less if a later one of them was done first
	require.EqualValues(t, 4, next())
}

// A consumer is told to stop while its producer, whose ID was refused, asks for the next
// one, and nobody answers for the time being.
func TestStopWithoutAProducerID(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	require.NoError(t, err)
	defer cluster.Close()
	broker, err := kafka.Open(t.Context(), fast(cluster.ListenAddrs()))
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	o := order{Name: "one", Input: newTopic(t), Group: "group", Brokers: cluster.ListenAddrs()}
	o.Output = o.Input + ".out"
	require.NoError(t, send(broker.Publisher(), o.Input, fault.Workload{Seed: 23, Events: 1}, &fault.Sent{}))
	refused, asked := atomic.Bool{}, make(chan struct{}, 1)
	cluster.ControlKey(kmsg.Produce.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		produce := request.(*kmsg.ProduceRequest)
		if produce.TransactionID == nil {
			cluster.KeepControl()
			return nil, nil, false
		}
		refused.Store(true)
		return refuseProduce(produce, kerr.UnknownProducerID), nil, true
	})
	cluster.ControlKey(kmsg.InitProducerID.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if !refused.Load() {
			return nil, nil, false
		}
		select {
		case asked <- struct{}{}:
		default:
		}
		answer := request.ResponseKind().(*kmsg.InitProducerIDResponse)
		answer.ErrorCode = kerr.CoordinatorLoadInProgress.Code
		return answer, nil, true
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- service(ctx, o, func(fault.Delivery) {}) }()
	await(t, asked, "the producer did not ask for an ID")
	stop()
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-within(t, 30*time.Second).Done():
		require.Fail(t, "the consumer does not stop")
	}
}

// Connections break at any call that a consumer makes: one in ten, of each kind.
func TestInjectedErrors(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	require.NoError(t, err)
	defer cluster.Close()
	config := fast(cluster.ListenAddrs())
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	input := newTopic(t)
	workload := fault.Workload{Seed: 14, Events: 1000, Keys: 20, Duplicates: 0.2}
	sent := &fault.Sent{}
	require.NoError(t, broker.Publisher().Publish(input)) // nothing: fine
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "maker"})
	require.NoError(t, err)
	for _, topic := range []string{input, input + ".out"} {
		require.NoError(t, subscriber.(interface{ SubscribeInitialize(string) error }).SubscribeInitialize(topic))
	}
	require.NoError(t, send(broker.Publisher(), input, workload, sent))

	hits := map[int16]int{}
	var mu sync.Mutex
	for _, key := range []kmsg.Key{kmsg.Produce, kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.TxnOffsetCommit,
		kmsg.EndTxn, kmsg.OffsetFetch, kmsg.ListOffsets, kmsg.FindCoordinator, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat} {
		cluster.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			mu.Lock()
			defer mu.Unlock()
			if rand.IntN(10) > 0 {
				return nil, nil, false
			}
			hits[key.Int16()]++
			return nil, errors.New("injected"), true
		})
	}
	r := newReader(t, cluster.ListenAddrs(), input+".out")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() {
		ended <- service(ctx, order{Name: "one", Input: input, Output: input + ".out", Group: "group", Brokers: cluster.ListenAddrs()}, func(fault.Delivery) {})
	}()
	require.Eventually(t, func() bool { return r.count() >= int64(workload.Events) }, time.Minute, 10*time.Millisecond, "events were lost")
	stop()
	require.NoError(t, <-ended)
	report := fault.Check(fault.Observation{Expected: sent.Expected(), Effects: r.effects(), Left: map[string]int64{}, MayNotRedeliver: true})
	require.NoError(t, report.Err())
	mu.Lock()
	defer mu.Unlock()
	require.NotZero(t, hits[kmsg.EndTxn.Int16()]+hits[kmsg.TxnOffsetCommit.Int16()], "nothing was injected where it matters")
	t.Logf("connections broken by request: %v", hits)
}
