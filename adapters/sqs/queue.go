package sqs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// queue is a topic's queue, and its traffic in batches.
type queue struct {
	broker *Broker
	topic  string
	name   string
	url    string
	fifo   bool
	// maxMessage is the largest message it takes, and batchBytes the largest
	// batch of them.
	maxMessage, batchBytes int

	sends   batcher[*sending]
	deletes batcher[*delivery]
	returns batcher[*delivery]
}

// queue looks up the queue of a topic, once; it is created when it is missing and
// the config says so.
func (b *Broker) queue(ctx context.Context, topic string) (*queue, error) {
	b.mu.Lock()
	q := b.queues[topic]
	b.mu.Unlock()
	if q != nil {
		return q, nil
	}
	q, err := b.newQueue(topic)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.config.Timeout)
	defer cancel()
	if q.url, err = q.find(ctx); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if first := b.queues[topic]; first != nil {
		return first, nil // looked up by two at once; order within a group needs one batcher
	}
	b.queues[topic] = q
	return q, nil
}

func (b *Broker) newQueue(topic string) (*queue, error) {
	name, err := b.config.QueueName(topic)
	if err != nil {
		return nil, err
	}
	q := &queue{broker: b, topic: topic, name: name, fifo: strings.HasSuffix(name, fifoSuffix), maxMessage: maxMessage, batchBytes: maxMessage}
	q.sends = batcher[*sending]{run: q.send, linger: linger, parallel: b.config.Workers, weigh: func(s *sending) int { return s.size }, capacity: q.batchBytes}
	if q.fifo {
		q.sends.exclusive = func(s *sending) string { return s.group }
	}
	q.deletes = batcher[*delivery]{run: q.delete, linger: linger, parallel: b.config.Workers}
	q.returns = batcher[*delivery]{run: q.giveBack, linger: linger, parallel: b.config.Workers}
	return q, nil
}

// existing is queue for somebody who only looks: nil when there is none, and none is
// made.
func (b *Broker) existing(ctx context.Context, topic string) (*queue, error) {
	q, err := b.newQueue(topic)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.config.Timeout)
	defer cancel()
	if q.url, err = q.lookUp(ctx); q.url == "" {
		return nil, err
	}
	return q, nil
}

// lookUp returns the queue's address, "" when there is no such queue.
func (q *queue) lookUp(ctx context.Context) (string, error) {
	found, err := q.broker.client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &q.name})
	switch {
	case err == nil:
		return aws.ToString(found.QueueUrl), nil
	case missing(err):
		return "", nil
	}
	return "", fmt.Errorf("look up queue %q of topic %q at %s: %w: %s", q.name, q.topic, q.broker.address(), err, q.broker.advice(err))
}

// find looks the queue up, and creates it if the config says so.
func (q *queue) find(ctx context.Context) (string, error) {
	b := q.broker
	if url, err := q.lookUp(ctx); url != "" || err != nil {
		return url, err
	}
	if !b.config.Create {
		return "", fmt.Errorf("topic %q has no queue: expected %q at %s: create it, or set create: true", q.topic, q.name, b.address())
	}
	attributes := map[string]string{
		string(types.QueueAttributeNameVisibilityTimeout): strconv.Itoa(seconds(b.config.VisibilityTimeout)),
	}
	if q.fifo {
		attributes[string(types.QueueAttributeNameFifoQueue)] = "true"
	}
	created, err := b.client.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &q.name, Attributes: attributes})
	if _, exists := errors.AsType[*types.QueueNameExists](err); exists {
		// Somebody else created it, in the same moment, with other attributes.
		if url, err := q.lookUp(ctx); url != "" || err != nil {
			return url, err
		}
	}
	if err != nil {
		return "", fmt.Errorf("create queue %q of topic %q: %w", q.name, q.topic, err)
	}
	b.config.Logger.Info("created queue", "queue", q.name, "topic", q.topic)
	return aws.ToString(created.QueueUrl), nil
}

func missing(err error) bool {
	_, gone := errors.AsType[*types.QueueDoesNotExist](err)
	return gone
}

// forget makes the next use look the queue up again: somebody deleted it.
func (b *Broker) forget(q *queue) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.queues[q.topic] == q {
		delete(b.queues, q.topic)
	}
}

func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }
