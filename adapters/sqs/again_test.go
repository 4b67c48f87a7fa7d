package sqs_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqs"
)

// againQueue is a standard queue that delivers its message a second time, after a while.
// The first receipt is worth nothing from then on, and from the start if it is refused.
type againQueue struct {
	mu       sync.Mutex
	receipts int
	refused  bool
	deleted  []string
}

func (q *againQueue) Do(request *http.Request) (*http.Response, error) {
	_, operation, _ := strings.Cut(request.Header.Get("X-Amz-Target"), ".")
	var input struct {
		Entries []struct {
			ID            string `json:"Id"`
			ReceiptHandle string
		}
	}
	_ = json.NewDecoder(request.Body).Decode(&input)
	q.mu.Lock()
	defer q.mu.Unlock()
	body := `{}`
	switch operation {
	case "GetQueueUrl":
		body = `{"QueueUrl":"http://sqs/queue"}`
	case "ReceiveMessage":
		q.receipts++
		handle := map[int]string{1: "old", 2: "new"}[q.receipts]
		if handle != "old" {
			q.mu.Unlock()
			select {
			case <-time.After(15 * time.Second):
			case <-request.Context().Done():
			}
			q.mu.Lock()
		}
		if handle == "" || request.Context().Err() != nil {
			return answered(request, `{}`), nil
		}
		q.refused = q.refused || handle == "new"
		body = `{"Messages":[{"MessageId":"one","ReceiptHandle":"` + handle + `","Body":"x","MD5OfBody":"9dd4e461268c8034f5c8564e155c67a6"}]}`
	case "ChangeMessageVisibilityBatch":
		if entry := input.Entries[0]; entry.ReceiptHandle == "old" && q.refused {
			body = `{"Successful":[],"Failed":[{"Id":"` + entry.ID + `","Code":"ReceiptHandleIsInvalid","SenderFault":true}]}`
		}
	case "DeleteMessageBatch":
		q.deleted = append(q.deleted, input.Entries[0].ReceiptHandle)
	}
	return answered(request, body), nil
}

// A message that comes again while it is held is not handed out beside itself. Its newest
// receipt counts, also where the message had been lost under the first.
func TestReceivedAgainWhileItIsHeld(t *testing.T) {
	for _, lost := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			queue := againQueue{refused: lost}
			broker, err := sqs.Open(t.Context(), sqs.Config{
				Endpoint: "http://sqs", Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""), HTTPClient: &queue, Logger: quiet, Workers: 1,
			})
			require.NoError(t, err)
			subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", DrainTimeout: -1})
			require.NoError(t, err)
			messages, err := subscriber.Subscribe(t.Context(), "queue")
			require.NoError(t, err)
			msg := <-messages
			select {
			case <-messages:
				require.Fail(t, "handed out twice at a time")
			case <-time.After(10 * time.Minute):
			}
			require.Equal(t, lost, msg.Context().Err() != nil)
			msg.Nack()
			msg = <-messages
			require.NoError(t, msg.Context().Err(), "it is held")
			msg.Ack()
			time.Sleep(time.Minute)
			require.NoError(t, broker.Close())
			require.Equal(t, []string{"new"}, queue.deleted)
		})
	}
}
