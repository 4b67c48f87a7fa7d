package sqs

import (
	"context"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

var systemAttributes = []types.MessageSystemAttributeName{
	types.MessageSystemAttributeNameApproximateReceiveCount,
	types.MessageSystemAttributeNameSentTimestamp,
	types.MessageSystemAttributeNameMessageGroupId,
	types.MessageSystemAttributeNameMessageDeduplicationId,
}

// receive receives until stop. Several run at once.
//
// A poll that waits is not cut off by stop: the server would go on with it, and
// messages that come meanwhile would be hidden from everybody. It ends by itself
// after the wait time; polls is cancelled when closing takes too long.
func (c *consumer) receive(polls context.Context) {
	idle := time.Duration(0)
	// Not worth a request below this; with a small window, one message is.
	worth := min(batchLimit, max(1, c.subscription.Window/4))
	for {
		if c.window.Acquire(c.running, int64(worth)) != nil {
			return
		}
		room := worth
		for room < batchLimit && c.window.TryAcquire(1) {
			room++
		}
		messages := c.fetch(polls, room)
		taken := 0
		for i := range messages {
			if c.take(c.newDelivery(&messages[i])) {
				taken++
			}
		}
		c.window.Release(int64(room - taken))
		switch {
		case c.running.Err() != nil:
			return
		case len(messages) > 0 || c.broker.config.WaitTime > 0:
			idle = 0
		default: // a short poll that found nothing
			idle = min(longer(idle), 250*time.Millisecond)
			pause(c.running.Done(), idle)
		}
	}
}

// fetch asks for messages until it is answered, or stop. After a network error
// the messages may be on their way already, hidden from everybody: a FIFO queue
// answers the same attempt ID with the same messages. Once their visibility has run
// out they may be with somebody else, or deleted by now, and the attempt ID is stale.
func (c *consumer) fetch(ctx context.Context, room int) []types.Message {
	config := c.broker.config
	input := &sqs.ReceiveMessageInput{
		QueueUrl: &c.queue.url, MaxNumberOfMessages: int32(room),
		VisibilityTimeout: int32(seconds(config.VisibilityTimeout)), WaitTimeSeconds: int32(seconds(config.WaitTime)),
		MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: systemAttributes,
	}
	attempt := func() time.Time {
		if c.queue.fifo {
			input.ReceiveRequestAttemptId = aws.String(watermill.NewUUID())
		}
		return time.Now()
	}
	began := attempt()
	for wait := time.Duration(0); ; {
		once, cancel := context.WithTimeout(ctx, config.WaitTime+config.Timeout)
		output, err := c.broker.client.ReceiveMessage(once, input, func(o *sqs.Options) { o.Retryer = aws.NopRetryer{} })
		cancel()
		if err == nil {
			return output.Messages
		}
		if c.running.Err() != nil {
			return nil
		}
		stale := !passing(err) // SQS says so
		wait = longer(wait)
		config.Logger.Warn("receive messages: trying again", "queue", c.queue.name, "pause", wait, "error", err)
		if !pause(c.running.Done(), wait) {
			return nil
		}
		if stale || time.Since(began) >= config.VisibilityTimeout {
			began = attempt()
		}
	}
}

func (c *consumer) newDelivery(m *types.Message) *delivery {
	received := time.Now()
	d := &delivery{consumer: c, raw: *m, id: aws.ToString(m.MessageId), since: received, until: received.Add(c.broker.config.VisibilityTimeout), extended: received, gone: make(chan struct{})}
	d.handle = aws.ToString(m.ReceiptHandle)
	d.Position = c.queue.name + "@" + d.id
	var err error
	if d.first, err = decode(m); err != nil {
		c.broker.config.Logger.Warn("decode message: it is handed out as it is", "position", d.Position, "error", err)
	}
	d.attempts, _ = strconv.Atoi(m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)])
	d.attempts = max(d.attempts, 1)
	if c.sequenced() {
		d.group = m.Attributes[string(types.MessageSystemAttributeNameMessageGroupId)]
	}
	return d
}
