package sqs_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
)

// The answer to a receive is lost on its way: the messages in it are hidden from
// everybody. A FIFO queue gives them again for the same attempt ID, at once.
func TestLostReceive(t *testing.T) {
	t.Parallel()
	config, faults := local(t), newMiddleware(t)
	config.FIFO, config.HTTPClient, config.Workers = true, faults, 1
	config.VisibilityTimeout, config.WaitTime = 5*time.Minute, time.Second
	var lost atomic.Int64
	faults.cut = func(operation string) bool { return operation == "ReceiveMessage" && lost.Add(1) <= 2 }
	broker, topic := open(t, config), newTopic()
	require.NoError(t, broker.Publisher().Publish(topic, events(3)...))
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group"})
	require.NoError(t, err)
	messages, err := subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	for range 3 {
		receive(t, messages).Ack() // within less than the five minutes
	}
	require.Greater(t, lost.Load(), int64(2))
	require.NoError(t, subscriber.Close())
}

// Throttled requests are tried again with growing pauses, sends and receives alike.
func TestThrottling(t *testing.T) {
	t.Parallel()
	config, faults := local(t), newMiddleware(t)
	config.HTTPClient = faults
	var sends, receives, deletes atomic.Int64
	faults.answer = func(operation string) *http.Response {
		counter := map[string]*atomic.Int64{"SendMessageBatch": &sends, "ReceiveMessage": &receives, "DeleteMessageBatch": &deletes}[operation]
		if counter == nil || counter.Add(1) > 5 {
			return nil
		}
		return &http.Response{StatusCode: http.StatusBadRequest, Header: http.Header{"X-Amzn-Errortype": {"ThrottlingException"}}, Body: http.NoBody}
	}
	broker, topic := open(t, config), newTopic()
	require.NoError(t, broker.Publisher().Publish(topic, events(5)...))
	collect(t, broker, topic, 5)
	for what, counter := range map[string]*atomic.Int64{"sends": &sends, "receives": &receives, "deletes": &deletes} {
		require.Greater(t, counter.Load(), int64(5), what)
	}
}

// A standard queue keeps by itself what is to come much later: nothing is held for it.
func TestLongRedeliveryDelayIsTheQueues(t *testing.T) {
	t.Parallel()
	config := local(t)
	config.VisibilityTimeout = 2 * time.Second
	broker, topic := open(t, config), newTopic()
	require.NoError(t, broker.Publisher().Publish(topic, event("patient", "")))
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", Window: 1})
	require.NoError(t, err)
	messages, err := subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	msg := receive(t, messages)
	const delay = 4 * time.Second
	adapters.DeliveryFrom(msg.Context()).RetryAfter(delay)
	nacked := time.Now()
	msg.Nack()
	require.NoError(t, broker.Publisher().Publish(topic, event("other", "")))
	require.Equal(t, "other", receiveID(t, messages), "the window of one is free")
	msg = receive(t, messages)
	require.Equal(t, "patient", msg.UUID)
	require.GreaterOrEqual(t, time.Since(nacked), delay)
	require.Equal(t, 2, adapters.DeliveryFrom(msg.Context()).Attempt)
	msg.Ack()
	require.NoError(t, subscriber.Close())
}
