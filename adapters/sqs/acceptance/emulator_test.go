package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/servers"
)

// What ElasticMQ 1.6.14 does not bear, by the SDK alone: receives that wait lose their
// connections, and are repeated under their attempt IDs, as they should be. Each repetition
// waits beside the receive that it repeats. Once the server gives messages to one of the
// two and they are deleted before it comes to the other, it meets with an error of its own
// and begins the queue anew, empty: even what is in flight is forgotten, and no receipt is
// valid any more.
//
// When this fails, the server has been mended, and consumer.Short can go.
func TestServerForgetsQueue(t *testing.T) {
	servers.OnRequest(t, "HAPAX_SOAK", "it shows a fault of the server, and asks nothing of Hapax")
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	client := awssqs.New(awssqs.Options{
		Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
		BaseEndpoint: aws.String(servers.Require(t, servers.SQS).URL), HTTPClient: &http.Client{Transport: transport}, Retryer: aws.NopRetryer{},
	})
	created, err := client.CreateQueue(t.Context(), &awssqs.CreateQueueInput{
		QueueName: aws.String("forgetful-" + watermill.NewUUID() + ".fifo"), Attributes: map[string]string{"FifoQueue": "true"},
	})
	require.NoError(t, err)
	f := forgetting{client: client, url: created.QueueUrl}
	require.NoError(t, f.send(t.Context(), "kept", "kept"))
	kept, err := f.receive(t.Context(), watermill.NewUUID(), 0, 600)
	require.NoError(t, err)
	require.Len(t, kept, 1)

	ctx, stop := context.WithCancel(t.Context())
	var traffic sync.WaitGroup
	for range 8 {
		traffic.Go(func() { f.poll(ctx) })
	}
	for n := range 4 {
		traffic.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				_ = f.send(ctx, fmt.Sprint(n, "-", i), fmt.Sprint(n, "-", i%5))
				<-time.After(time.Duration(rand.IntN(50)) * time.Millisecond) // so that receives wait
			}
		})
	}
	forgotten := false
	began := time.Now()
	for !forgotten && time.Since(began) < 3*time.Minute {
		<-time.After(100 * time.Millisecond)
		_, err := client.ChangeMessageVisibility(ctx, &awssqs.ChangeMessageVisibilityInput{
			QueueUrl: f.url, ReceiptHandle: kept[0].ReceiptHandle, VisibilityTimeout: 600,
		})
		// Other errors are those of its own that it catches.
		_, forgotten = errors.AsType[*types.ReceiptHandleIsInvalid](err)
	}
	stop()
	traffic.Wait()
	require.True(t, forgotten, "the server has kept what is in flight")
	t.Logf("forgotten after %s", time.Since(began))
}

type forgetting struct {
	client *awssqs.Client
	url    *string
}

func (f forgetting) send(ctx context.Context, id, group string) error {
	_, err := f.client.SendMessage(ctx, &awssqs.SendMessageInput{QueueUrl: f.url, MessageBody: &id, MessageDeduplicationId: &id, MessageGroupId: &group})
	return err
}

func (f forgetting) receive(ctx context.Context, attempt string, wait, visibility int32) ([]types.Message, error) {
	output, err := f.client.ReceiveMessage(ctx, &awssqs.ReceiveMessageInput{
		QueueUrl: f.url, ReceiveRequestAttemptId: &attempt, MaxNumberOfMessages: 10, WaitTimeSeconds: wait, VisibilityTimeout: visibility,
	})
	if err != nil {
		return nil, err
	}
	return output.Messages, nil
}

// poll receives and deletes. Half of its receives lose their connection while they wait.
func (f forgetting) poll(ctx context.Context) {
	for attempt := ""; ctx.Err() == nil; {
		if attempt == "" {
			attempt = watermill.NewUUID()
		}
		once, cancel := context.WithTimeout(ctx, 10*time.Second)
		if rand.IntN(2) == 0 {
			time.AfterFunc(time.Duration(rand.IntN(1000))*time.Millisecond, cancel)
		}
		messages, err := f.receive(once, attempt, 1, 2)
		lost := once.Err() != nil
		cancel()
		if err != nil && lost {
			continue
		}
		attempt = ""
		var entries []types.DeleteMessageBatchRequestEntry
		for i, m := range messages {
			entries = append(entries, types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: m.ReceiptHandle})
		}
		if len(entries) > 0 {
			_, _ = f.client.DeleteMessageBatch(ctx, &awssqs.DeleteMessageBatchInput{QueueUrl: f.url, Entries: entries})
		}
	}
}
