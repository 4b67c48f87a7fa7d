package sqs

import (
	"context"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// Backlog is what a queue holds, as SQS counts it: approximately, and on Amazon a
// minute late.
type Backlog struct {
	// Waiting are messages that can be received.
	Waiting int64
	// InFlight are messages received and neither deleted nor visible again.
	InFlight int64
	// Delayed are messages that cannot be received yet.
	Delayed int64
}

// Backlog asks for what the queue of a topic holds.
func (b *Broker) Backlog(ctx context.Context, topic string) (backlog Backlog, err error) {
	q, err := b.queue(ctx, topic)
	if err != nil {
		return backlog, err
	}
	return q.backlog(ctx)
}

func (q *queue) backlog(ctx context.Context) (backlog Backlog, err error) {
	counts := map[types.QueueAttributeName]*int64{
		types.QueueAttributeNameApproximateNumberOfMessages:           &backlog.Waiting,
		types.QueueAttributeNameApproximateNumberOfMessagesNotVisible: &backlog.InFlight,
		types.QueueAttributeNameApproximateNumberOfMessagesDelayed:    &backlog.Delayed,
	}
	input := &sqs.GetQueueAttributesInput{QueueUrl: &q.url}
	for name := range counts {
		input.AttributeNames = append(input.AttributeNames, name)
	}
	found, err := q.broker.client.GetQueueAttributes(ctx, input)
	if err != nil {
		return backlog, fmt.Errorf("count messages of queue %q: %w", q.name, err)
	}
	for name, count := range counts {
		if *count, err = strconv.ParseInt(found.Attributes[string(name)], 10, 64); err != nil {
			return backlog, fmt.Errorf("count messages of queue %q: read %s: %w", q.name, name, err)
		}
	}
	return backlog, nil
}
