package kafka_test

import (
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
	"github.com/hapax-go/hapax/adapters/kafka/raw"
)

// A broker refuses a batch with the outputs of two events, and cannot be asked for the next
// transaction at once. Neither event was refused alone, so neither may fail.
func TestRefusedInCompanyBeforeAnOutage(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	require.NoError(t, err)
	defer cluster.Close()
	config := fast(cluster.ListenAddrs())
	config.Partitions, config.MaxTime = 1, 500*time.Millisecond
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	input := newTopic(t)
	output := input + ".out"
	require.NoError(t, broker.Publisher().Publish(output, message.NewMessage("first", []byte("first"))))

	var ended atomic.Bool
	cluster.ControlKey(kmsg.Produce.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		produce := request.(*kmsg.ProduceRequest)
		if produce.TransactionID == nil || ended.Load() {
			return nil, nil, false
		}
		return refuseProduce(produce, kerr.InvalidRecord), nil, true
	})
	cluster.ControlKey(kmsg.EndTxn.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if ended.Swap(true) {
			return nil, nil, false
		}
		answer := request.ResponseKind().(*kmsg.EndTxnResponse)
		answer.ErrorCode = kerr.InvalidTxnState.Code
		return answer, nil, true
	})
	var unanswered atomic.Int64
	cluster.ControlKey(kmsg.InitProducerID.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if !ended.Load() || unanswered.Add(1) > 2 {
			return nil, nil, false
		}
		answer := request.ResponseKind().(*kmsg.InitProducerIDResponse)
		answer.ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
		return answer, nil, true
	})

	var calls atomic.Int64
	var both sync.WaitGroup // so that one transaction has them
	both.Add(2)
	defer passOn(t, broker, input, adapters.Subscription{Group: "group", MaxDeliveries: 1}, func(*message.Message) string {
		if calls.Add(1) <= 2 {
			both.Done()
			both.Wait()
		}
		return output
	})()
	require.NoError(t, broker.Publisher().Publish(input, events(2)...))
	require.Eventually(t, func() bool {
		lag, err := broker.Lag(t.Context(), "group", input)
		return err == nil && lag == 0
	}, 20*time.Second, 10*time.Millisecond, "the events are not committed")
	values, err := raw.Values(within(t, 20*time.Second), config.Brokers, output)
	require.NoError(t, err)
	require.Len(t, values, 1+2, "an event failed for another one's fault")
	require.EqualValues(t, 2, calls.Load())
	require.Greater(t, unanswered.Load(), int64(2), "nothing was out of order")
}

// The log of processed IDs refuses those of a transaction, which has no outputs. franz-go ends
// a transaction in which nothing was sent without committing it, and reports no error: so the
// refusal has to be seen before, or the event would count as processed and be lost.
func TestRefusedProcessedIDs(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	require.NoError(t, err)
	defer cluster.Close()
	config, topic := fast(cluster.ListenAddrs()), newTopic(t)
	config.Partitions = 1
	broker, stop := batcher(t, config, topic, "group", 1)
	defer stop()
	var refused atomic.Bool
	cluster.ControlKey(kmsg.Produce.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		produce := request.(*kmsg.ProduceRequest)
		if produce.TransactionID == nil || refused.Swap(true) { // there are no outputs
			return nil, nil, false
		}
		return refuseProduce(produce, kerr.InvalidRecord), nil, true
	})
	require.NoError(t, broker.Publisher().Publish(topic, events(1)...))
	require.Eventually(t, func() bool {
		lag, err := broker.Lag(t.Context(), "group", topic)
		return err == nil && lag == 0
	}, 20*time.Second, 10*time.Millisecond, "the event is not committed")
	require.True(t, refused.Load())
	logged, err := raw.Values(within(t, 20*time.Second), config.Brokers, kafka.IDLogName("group", topic))
	require.NoError(t, err)
	require.Len(t, logged, 1, "offsets are committed without the processed IDs")
}
