package sqs_test

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqs"
	"github.com/hapax-go/hapax/dedup"
)

// countedQueue is a FIFO queue with three messages of a group, which are received together
// and have been five times before.
type countedQueue struct {
	mu      sync.Mutex
	given   bool
	letters []string // the messages that were buried
	deleted []string
}

func (q *countedQueue) Do(request *http.Request) (*http.Response, error) {
	_, operation, _ := strings.Cut(request.Header.Get("X-Amz-Target"), ".")
	var input struct {
		Entries []struct {
			ID            string `json:"Id"`
			ReceiptHandle string
			MessageBody   string
		}
	}
	_ = json.NewDecoder(request.Body).Decode(&input)
	q.mu.Lock()
	defer q.mu.Unlock()
	var list []string
	body := `{}`
	switch operation {
	case "GetQueueUrl":
		body = `{"QueueUrl":"http://sqs/queue.fifo"}`
	case "ReceiveMessage":
		if q.given {
			q.mu.Unlock()
			<-request.Context().Done()
			q.mu.Lock()
			return nil, request.Context().Err()
		}
		q.given = true
		for _, id := range []string{"poison", "behind", "last"} {
			list = append(list, `{"MessageId":"`+id+`","ReceiptHandle":"`+id+`","Body":"`+id+`","MD5OfBody":"`+digest(id)+
				`","Attributes":{"MessageGroupId":"group","MessageDeduplicationId":"`+id+`","ApproximateReceiveCount":"6"}}`)
		}
		body = `{"Messages":[` + strings.Join(list, ",") + `]}`
	case "SendMessageBatch":
		for _, entry := range input.Entries {
			q.letters = append(q.letters, entry.MessageBody)
			list = append(list, `{"Id":"`+entry.ID+`","MessageId":"letter","MD5OfMessageBody":"`+digest(entry.MessageBody)+`"}`)
		}
		body = `{"Successful":[` + strings.Join(list, ",") + `],"Failed":[]}`
	case "DeleteMessageBatch":
		for _, entry := range input.Entries {
			q.deleted = append(q.deleted, entry.ReceiptHandle)
		}
	}
	return answered(request, body), nil
}

func digest(text string) string {
	sum := md5.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

// SQS counts a receive for all that it hands out together, for those too that wait behind
// another one of their group: what kills its consumers takes none of them with it.
func TestWhatWaitsBehindAKillerIsNotBuried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var queue countedQueue
		broker, err := sqs.Open(t.Context(), sqs.Config{
			Endpoint: "http://sqs", Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""), HTTPClient: &queue, Logger: quiet,
			FIFO: true, Workers: 1,
		})
		require.NoError(t, err)
		subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", MaxDeliveries: 5, DrainTimeout: -1})
		require.NoError(t, err)
		messages, err := subscriber.Subscribe(t.Context(), "queue")
		require.NoError(t, err)
		msg := receive(t, messages)
		require.Equal(t, "behind", msg.Metadata.Get(dedup.MetaBrokerID))
		require.Equal(t, 6, adapters.DeliveryFrom(msg.Context()).Attempt)
		msg.Nack()
		msg = receive(t, messages)
		require.Equal(t, "behind", msg.Metadata.Get(dedup.MetaBrokerID))
		msg.Ack()
		for range 5 { // its own, which count
			msg = receive(t, messages)
			require.Equal(t, "last", msg.Metadata.Get(dedup.MetaBrokerID))
			msg.Nack()
		}
		require.NoError(t, broker.Close())
		require.Equal(t, []string{"poison", "last"}, queue.letters)
		require.Equal(t, []string{"poison", "behind", "last"}, queue.deleted)
	})
}
