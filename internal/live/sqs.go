package live

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/servers"
)

type sqsPeer struct {
	client *sqs.Client
	suffix string
}

func (p *Place) sqs(t testing.TB, fifo bool) peer {
	endpoint := servers.Require(t, servers.SQS).URL
	p.set("HAPAX_SQS_ENDPOINT", endpoint)
	p.set("HAPAX_SQS_REGION", "eu-west-1")
	p.set("HAPAX_SQS_CREATE", "true")
	p.set("HAPAX_SQS_WAIT_TIME", "1s")
	p.set("AWS_ACCESS_KEY_ID", "test")
	p.set("AWS_SECRET_ACCESS_KEY", "test")
	peer := sqsPeer{client: sqs.New(sqs.Options{
		HTTPClient: oneByOne,
		Region:     "eu-west-1", BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})}
	if fifo {
		peer.suffix = ".fifo"
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		queues, err := peer.client.ListQueues(ctx, &sqs.ListQueuesInput{QueueNamePrefix: &p.prefix})
		require.NoError(t, err)
		for _, queue := range queues.QueueUrls {
			_, err := peer.client.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: &queue})
			require.NoError(t, err)
		}
	})
	return peer
}

// read takes everything out of the queue.
func (p sqsPeer) read(t testing.TB, topic string) (payloads [][]byte, again bool) {
	queue, err := p.client.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String(topic + p.suffix)})
	require.NoError(t, err)
	for {
		received, err := p.client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
			QueueUrl: queue.QueueUrl, MaxNumberOfMessages: 10, WaitTimeSeconds: 1,
		})
		require.NoError(t, err)
		if len(received.Messages) == 0 {
			return payloads, false
		}
		for _, message := range received.Messages {
			payloads = append(payloads, []byte(*message.Body))
			_, err := p.client.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: queue.QueueUrl, ReceiptHandle: message.ReceiptHandle})
			require.NoError(t, err)
		}
	}
}
