package sqs_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqs"
	"github.com/hapax-go/hapax/dedup"
)

// quietQueue is a queue with one message, for tests of time: it answers at once,
// and holds long polls until they end.
type quietQueue struct {
	mu        sync.Mutex
	delivered int
	extended  []time.Duration // visibility asked for, one after the other
	refusal   string          // the code with which renewals are refused; "": they are not
	once      bool            // only the first is
	slow      time.Duration   // how long renewals are on their way
	silent    string          // the operation that is not answered; "": all are
	deleted   int             // requests
}

func (q *quietQueue) Do(request *http.Request) (*http.Response, error) {
	_, operation, _ := strings.Cut(request.Header.Get("X-Amz-Target"), ".")
	var input struct {
		Entries []struct {
			ID                string `json:"Id"`
			VisibilityTimeout int
		}
	}
	_ = json.NewDecoder(request.Body).Decode(&input)
	q.mu.Lock()
	body := `{}`
	switch operation {
	case q.silent:
		q.mu.Unlock()
		return nil, io.ErrUnexpectedEOF
	case "DeleteMessageBatch":
		q.deleted++
	case "GetQueueUrl":
		body = `{"QueueUrl":"http://sqs/queue"}`
	case "ReceiveMessage":
		if q.delivered++; q.delivered > 1 {
			q.mu.Unlock()
			<-request.Context().Done()
			return nil, request.Context().Err()
		}
		body = `{"Messages":[{"MessageId":"one","ReceiptHandle":"handle","Body":"x","MD5OfBody":"9dd4e461268c8034f5c8564e155c67a6"}]}`
	case "ChangeMessageVisibilityBatch":
		visibility := time.Duration(input.Entries[0].VisibilityTimeout) * time.Second
		if visibility > 0 {
			q.mu.Unlock()
			time.Sleep(q.slow)
			q.mu.Lock()
		}
		q.extended = append(q.extended, visibility)
		if q.refusal != "" {
			body = `{"Successful":[],"Failed":[{"Id":"0","Code":"` + q.refusal + `","SenderFault":true}]}`
		}
		if q.once {
			q.refusal = ""
		}
	}
	q.mu.Unlock()
	return answered(request, body), nil
}

func (q *quietQueue) renewals() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.extended)
}

func held(t *testing.T, q *quietQueue) (ctx context.Context, closeBroker func()) {
	msg, closeBroker := heldMessage(t, q, adapters.Subscription{})
	return msg.Context(), closeBroker
}

func heldMessage(t *testing.T, q *quietQueue, subscription adapters.Subscription) (msg *message.Message, closeBroker func()) {
	subscription.Group, subscription.DrainTimeout = "group", -1
	broker, err := sqs.Open(t.Context(), sqs.Config{
		Endpoint: "http://sqs", Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""), HTTPClient: q, Logger: quiet,
	})
	require.NoError(t, err)
	subscriber, err := broker.Subscriber(subscription)
	require.NoError(t, err)
	messages, err := subscriber.Subscribe(t.Context(), "queue")
	require.NoError(t, err)
	return <-messages, func() { require.NoError(t, broker.Close()) }
}

// A handler may take its time, and no more than SQS allows.
func TestTwelveHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var queue quietQueue
		began := time.Now()
		ctx, closeBroker := held(t, &queue)
		time.Sleep(11*time.Hour + 50*time.Minute)
		require.NoError(t, ctx.Err())
		<-ctx.Done()
		require.ErrorContains(t, context.Cause(ctx), "12 hours")
		require.InDelta(t, 12*time.Hour, time.Since(began), float64(time.Minute))
		closeBroker()
		at := time.Duration(0)
		for _, visibility := range queue.extended[:len(queue.extended)-1] {
			at += 10 * time.Second
			require.LessOrEqual(t, at+visibility, 12*time.Hour, "SQS would refuse this renewal")
			require.Positive(t, visibility)
		}
		require.Greater(t, len(queue.extended), 4000)
	})
}

func TestRefusedRenewalEndsTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := quietQueue{refusal: "ReceiptHandleIsInvalid"}
		ctx, closeBroker := held(t, &queue)
		<-ctx.Done()
		require.ErrorContains(t, context.Cause(ctx), "another consumer may have it")
		closeBroker()
		require.Len(t, queue.extended, 1, "what is lost is not given back")
	})
}

// What is put off is tried again with the next beat: the message is hidden meanwhile.
func TestThrottledRenewalIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := quietQueue{refusal: "RequestThrottled", once: true}
		ctx, closeBroker := held(t, &queue)
		time.Sleep(time.Hour)
		require.NoError(t, ctx.Err())
		closeBroker()
	})
}

// A renewal that is on its way when a message is given back would hide it again, from
// everybody, if it came second.
func TestRenewalDoesNotOvertakeTheReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := quietQueue{slow: 5 * time.Second}
		_, closeBroker := held(t, &queue)
		time.Sleep(12 * time.Second) // two seconds after the first beat
		closeBroker()
		require.Equal(t, []time.Duration{30 * time.Second, 0}, queue.extended)
	})
}

// While SQS does not answer, a message is this consumer's for as long as it is hidden since
// the last renewal.
func TestUnansweredRenewalsEndTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var queue quietQueue
		ctx, closeBroker := held(t, &queue)
		time.Sleep(5*time.Minute + 5*time.Second) // the last renewal is from five seconds before
		require.NoError(t, ctx.Err())
		silence := func(operation string) {
			queue.mu.Lock()
			defer queue.mu.Unlock()
			queue.silent = operation
		}
		silence("ChangeMessageVisibilityBatch")
		time.Sleep(20 * time.Second)
		require.NoError(t, ctx.Err(), "it is hidden still")
		silence("")
		time.Sleep(5 * time.Minute)
		require.NoError(t, ctx.Err(), "it was renewed in time")
		silence("ChangeMessageVisibilityBatch")
		time.Sleep(20 * time.Second)
		require.NoError(t, ctx.Err(), "it is hidden still")
		time.Sleep(30 * time.Second)
		require.ErrorContains(t, context.Cause(ctx), "another consumer may have it")
		silence("")
		closeBroker()
	})
}

// Deletes that are not answered are tried for a while: the message comes again, as a
// duplicate, and holds up neither the window nor the end.
func TestUnansweredDeleteEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := quietQueue{silent: "DeleteMessageBatch"}
		msg, closeBroker := heldMessage(t, &queue, adapters.Subscription{})
		msg.Ack()
		time.Sleep(time.Minute)
		renewals := queue.renewals()
		time.Sleep(time.Hour)
		require.Equal(t, renewals, queue.renewals(), "it is not held any more")
		closeBroker()
	})
}

// A letter that cannot be sent leaves its message in the queue, which hands it out again.
func TestUnsentLetterLeavesTheMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := quietQueue{silent: "SendMessageBatch"}
		msg, closeBroker := heldMessage(t, &queue, adapters.Subscription{MaxDeliveries: 1})
		msg.Nack()
		time.Sleep(time.Minute)
		renewals := queue.renewals()
		require.Positive(t, renewals)
		time.Sleep(time.Hour)
		require.Equal(t, renewals, queue.renewals(), "it is not held any more")
		closeBroker()
		require.Zero(t, queue.deleted)
	})
}

// groupQueue is a FIFO queue with two messages of a group. The first is given to another
// consumer, who deletes it, after its first delivery; the second comes after a minute.
type groupQueue struct {
	began time.Time
	mu    sync.Mutex
	given map[string]bool
}

func (q *groupQueue) Do(request *http.Request) (*http.Response, error) {
	_, operation, _ := strings.Cut(request.Header.Get("X-Amz-Target"), ".")
	var input struct {
		Entries []struct {
			ID            string `json:"Id"`
			ReceiptHandle string
		}
	}
	_ = json.NewDecoder(request.Body).Decode(&input)
	body := `{}`
	switch operation {
	case "GetQueueUrl":
		body = `{"QueueUrl":"http://sqs/queue.fifo"}`
	case "ReceiveMessage":
		id := "first"
		if time.Since(q.began) > time.Minute {
			id = "second"
		}
		q.mu.Lock()
		given := q.given[id]
		q.given[id] = true
		q.mu.Unlock()
		if given {
			<-request.Context().Done()
			return nil, request.Context().Err()
		}
		body = `{"Messages":[{"MessageId":"` + id + `","ReceiptHandle":"` + id + `","Body":"x","MD5OfBody":"9dd4e461268c8034f5c8564e155c67a6",` +
			`"Attributes":{"MessageGroupId":"group","MessageDeduplicationId":"` + id + `"}}]}`
	case "ChangeMessageVisibilityBatch":
		var failed []string
		for _, entry := range input.Entries {
			if entry.ReceiptHandle == "first" {
				failed = append(failed, `{"Id":"`+entry.ID+`","Code":"ReceiptHandleIsInvalid","SenderFault":true}`)
			}
		}
		body = `{"Successful":[],"Failed":[` + strings.Join(failed, ",") + `]}`
	}
	return answered(request, body), nil
}

// What was lost while it waited for its redelivery is waited for no longer: another
// consumer may be done with it, and its group goes on.
func TestLostMessageThatWaitedHoldsUpNoGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := groupQueue{began: time.Now(), given: map[string]bool{}}
		broker, err := sqs.Open(t.Context(), sqs.Config{
			Endpoint: "http://sqs", Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""), HTTPClient: &queue, Logger: quiet,
			FIFO: true, Workers: 1,
		})
		require.NoError(t, err)
		subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", DrainTimeout: -1})
		require.NoError(t, err)
		messages, err := subscriber.Subscribe(t.Context(), "queue")
		require.NoError(t, err)
		msg := <-messages
		adapters.DeliveryFrom(msg.Context()).RetryAfter(time.Hour)
		msg.Nack()
		msg = <-messages
		require.Equal(t, "second", msg.Metadata.Get(dedup.MetaBrokerID))
		require.Less(t, time.Since(queue.began), time.Hour)
		msg.Ack()
		require.NoError(t, broker.Close())
	})
}
