package plain

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"

	official "github.com/ThreeDotsLabs/watermill-aws/sqs"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"golang.org/x/sync/errgroup"
)

// Loop is what one would write by hand for throughput: workers that receive ten,
// send ten and delete ten. No deduplication, no heartbeat, no second try, and no
// FIFO queues.
type Loop struct {
	In, Out string
	Workers int
	Produce bool
	Handle  func(uuid string)
	Done    func(uuid string) // after the delete
	Total   int
}

// Run processes Total messages.
func (e *Ends) Run(ctx context.Context, l Loop) error {
	client := sqs.NewFromConfig(e.aws)
	in, err := e.url(ctx, client, l.In)
	if err != nil {
		return err
	}
	out, err := e.url(ctx, client, l.Out)
	if err != nil {
		return err
	}
	ctx, finish := context.WithCancel(ctx)
	defer finish()
	var done atomic.Int64
	workers, shared := errgroup.WithContext(ctx)
	for range l.Workers {
		workers.Go(func() error {
			for int(done.Load()) < l.Total {
				n, err := l.batch(shared, client, in, out)
				if int(done.Add(int64(n))) >= l.Total {
					finish() // ends the receives of the others
					return nil
				}
				if err != nil && int(done.Load()) < l.Total {
					return err
				}
			}
			return nil
		})
	}
	return workers.Wait()
}

func (l Loop) batch(ctx context.Context, client *sqs.Client, in, out *string) (int, error) {
	received, err := client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: in, MaxNumberOfMessages: 10, WaitTimeSeconds: 1, MessageAttributeNames: []string{"All"},
	})
	if err != nil {
		return 0, fmt.Errorf("receive: %w", err)
	}
	if len(received.Messages) == 0 {
		return 0, nil
	}
	var sends []types.SendMessageBatchRequestEntry
	var deletes []types.DeleteMessageBatchRequestEntry
	var uuids []string
	for i, m := range received.Messages {
		uuid := aws.ToString(m.MessageAttributes[official.UUIDAttribute].StringValue)
		uuids = append(uuids, uuid)
		l.Handle(uuid)
		id := aws.String(strconv.Itoa(i))
		sends = append(sends, types.SendMessageBatchRequestEntry{Id: id, MessageBody: m.Body, MessageAttributes: m.MessageAttributes})
		deletes = append(deletes, types.DeleteMessageBatchRequestEntry{Id: id, ReceiptHandle: m.ReceiptHandle})
	}
	if l.Produce {
		sent, err := client.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: out, Entries: sends})
		if err != nil {
			return 0, fmt.Errorf("send: %w", err)
		}
		if len(sent.Failed) > 0 {
			return 0, fmt.Errorf("send: %s", aws.ToString(sent.Failed[0].Message))
		}
	}
	deleted, err := client.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: in, Entries: deletes})
	if err != nil {
		return 0, fmt.Errorf("delete: %w", err)
	}
	if len(deleted.Failed) > 0 {
		return 0, fmt.Errorf("delete: %s", aws.ToString(deleted.Failed[0].Message))
	}
	for _, uuid := range uuids {
		l.Done(uuid)
	}
	return len(deletes), nil
}

func (e *Ends) url(ctx context.Context, client *sqs.Client, topic string) (*string, error) {
	name, err := e.config.QueueName(topic)
	if err != nil {
		return nil, err
	}
	found, err := client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &name})
	if err != nil {
		return nil, fmt.Errorf("look up queue %q: %w", name, err)
	}
	return found.QueueUrl, nil
}

// Delete deletes the queues of topics, with everything in them.
func (e *Ends) Delete(ctx context.Context, topics ...string) error {
	client := sqs.NewFromConfig(e.aws)
	for _, topic := range topics {
		url, err := e.url(ctx, client, topic)
		if err != nil {
			return err
		}
		if _, err := client.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: url}); err != nil {
			return fmt.Errorf("delete queue of topic %q: %w", topic, err)
		}
	}
	return nil
}
