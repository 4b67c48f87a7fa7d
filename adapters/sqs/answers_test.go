package sqs_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqs"
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
	config.VisibilityTimeout = 4 * time.Second
	broker, topic := open(t, config), newTopic()
	require.NoError(t, broker.Publisher().Publish(topic, event("patient", "")))
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", Window: 1})
	require.NoError(t, err)
	messages, err := subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	msg := receive(t, messages)
	const delay = 6 * time.Second
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

// unreachable is a service whose receives are lost, each after a while.
type unreachable struct {
	mu       sync.Mutex
	attempts []string // their IDs, one after the other
	began    []time.Time
}

func (u *unreachable) Do(request *http.Request) (*http.Response, error) {
	body := `{}`
	switch _, operation, _ := strings.Cut(request.Header.Get("X-Amz-Target"), "."); operation {
	case "GetQueueUrl":
		body = `{"QueueUrl":"http://sqs/queue.fifo"}`
	case "ReceiveMessage":
		var input struct {
			ID string `json:"ReceiveRequestAttemptId"`
		}
		_ = json.NewDecoder(request.Body).Decode(&input)
		u.mu.Lock()
		u.attempts, u.began = append(u.attempts, input.ID), append(u.began, time.Now())
		u.mu.Unlock()
		return nil, io.ErrUnexpectedEOF
	}
	return answered(request, body), nil
}

// A receive is repeated under its attempt ID for as long as what it may have got is
// hidden from the others. After that the messages are anybody's, and the ID is stale.
func TestAttemptEndsWithItsVisibility(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var service unreachable
		broker, err := sqs.Open(t.Context(), sqs.Config{
			Endpoint: "http://sqs", Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""), HTTPClient: &service, Logger: quiet,
			FIFO: true, Workers: 1, VisibilityTimeout: 30 * time.Second,
		})
		require.NoError(t, err)
		subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", DrainTimeout: -1})
		require.NoError(t, err)
		_, err = subscriber.Subscribe(t.Context(), "queue")
		require.NoError(t, err)
		time.Sleep(5 * time.Minute)
		require.NoError(t, broker.Close())

		first, ids := map[string]time.Time{}, map[string]int{}
		for i, id := range service.attempts {
			if ids[id]++; ids[id] == 1 {
				first[id] = service.began[i]
			}
			require.Less(t, service.began[i].Sub(first[id]), 30*time.Second, "repeated under a stale ID")
		}
		require.InDelta(t, 9, len(ids), 1, "one for each visibility timeout")
		require.Greater(t, len(service.attempts), 3*len(ids), "repeated")
	})
}

// answered is an answer of SQS.
func answered(request *http.Request, body string) *http.Response {
	return &http.Response{
		StatusCode: http.StatusOK, Request: request, Body: io.NopCloser(strings.NewReader(body)),
		Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}},
	}
}
