package sqs

import (
	"context"
	"encoding/json"
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
	name, err := b.config.QueueName(topic)
	if err != nil {
		return nil, err
	}
	q = &queue{broker: b, topic: topic, name: name, fifo: strings.HasSuffix(name, fifoSuffix), maxMessage: maxMessage, batchBytes: maxMessage}
	ctx, cancel := context.WithTimeout(ctx, b.config.Timeout)
	defer cancel()
	if q.url, err = q.find(ctx); err != nil {
		return nil, err
	}
	q.sends = batcher[*sending]{run: q.send, parallel: b.config.Workers, weigh: func(s *sending) int { return s.size }, capacity: q.batchBytes}
	if q.fifo {
		q.sends.exclusive = func(s *sending) string { return s.group }
	}
	q.deletes = batcher[*delivery]{run: q.delete, parallel: b.config.Workers}
	q.returns = batcher[*delivery]{run: q.giveBack, parallel: b.config.Workers}
	b.mu.Lock()
	defer b.mu.Unlock()
	if first := b.queues[topic]; first != nil {
		return first, nil // looked up by two at once; order within a group needs one batcher
	}
	b.queues[topic] = q
	return q, nil
}

func (q *queue) find(ctx context.Context) (string, error) {
	b := q.broker
	found, err := b.client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &q.name})
	if err == nil {
		return aws.ToString(found.QueueUrl), nil
	}
	if !missing(err) {
		return "", fmt.Errorf("look up queue %q of topic %q at %s: %w: %s", q.name, q.topic, b.address(), err, advice(err))
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
		if found, err = b.client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &q.name}); err == nil {
			return aws.ToString(found.QueueUrl), nil
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

// inspect reads the queue's settings before the first message is taken. It refuses
// those that lose messages, and warns of those that surprise.
func (q *queue) inspect(ctx context.Context, maxDeliveries int) error {
	config, logger := q.broker.config, q.broker.config.Logger.With("queue", q.name)
	ctx, cancel := context.WithTimeout(ctx, config.Timeout)
	defer cancel()
	found, err := q.broker.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &q.url, AttributeNames: []types.QueueAttributeName{
		types.QueueAttributeNameRedrivePolicy, types.QueueAttributeNameMessageRetentionPeriod,
	}})
	if err != nil {
		logger.Warn("read queue attributes: its redrive policy and retention are not checked; permit sqs:GetQueueAttributes", "error", err)
		return nil
	}
	if text := found.Attributes[string(types.QueueAttributeNameRedrivePolicy)]; text != "" {
		var policy struct {
			MaxReceiveCount json.Number `json:"maxReceiveCount"`
		}
		if err := json.Unmarshal([]byte(text), &policy); err != nil {
			return fmt.Errorf("read redrive policy of queue %q: %w", q.name, err)
		}
		limit, _ := strconv.Atoi(policy.MaxReceiveCount.String())
		switch {
		case limit == 1:
			return fmt.Errorf("queue %q has a redrive policy with maxReceiveCount 1: a message whose consumer stops or crashes once would go to the dead-letter queue without ever being processed: set it to 2 or more, better above max_deliveries", q.name)
		case maxDeliveries <= 0 || limit <= maxDeliveries:
			logger.Warn("SQS gives messages up before Hapax does, and says no reason: raise maxReceiveCount above max_deliveries",
				"maxReceiveCount", limit, "max_deliveries", maxDeliveries)
		}
	}
	retention, err := strconv.Atoi(found.Attributes[string(types.QueueAttributeNameMessageRetentionPeriod)])
	if kept := time.Duration(retention) * time.Second; err == nil && config.DedupWindow > 0 && config.DedupWindow < kept {
		logger.Warn("the queue keeps messages longer than dedup.window remembers events: a late copy would take effect again; raise the window, or lower the retention",
			"retention", kept, "window", config.DedupWindow)
	}
	return nil
}

func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }
