package sqs

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
)

// remove deletes the message, together with others; its group goes on afterwards.
// Killed between the handler's Ack and the delete: the message comes again, as it
// must, and the ledger knows it.
func (d *delivery) remove() {
	if !d.end() {
		return
	}
	if failpoint.Hit(failpoint.BeforeAck) != nil {
		d.consumer.release(d, false)
		return
	}
	d.consumer.ending.Add(1)
	d.consumer.queue.deletes.add(d)
}

// giveBack makes the message visible to others, now or after a delay.
func (d *delivery) giveBack(after time.Duration) {
	if !d.end() {
		return
	}
	if d.isLost() != nil || d.consumer.broker.frozen.Load() {
		d.consumer.release(d, true)
		return
	}
	d.consumer.ending.Add(1)
	d.sendBack(after)
}

// sendBack hands the message to the batches of those given back, once no heartbeat is on
// its way. From here on none may hide it.
func (d *delivery) sendBack(after time.Duration) {
	d.mu.Lock()
	d.returning = true
	d.back = max(min(after, maxVisibility-time.Since(d.since)-time.Second), 0)
	beating := d.beating
	d.mu.Unlock()
	if !beating { // else endBeat does it
		d.consumer.queue.returns.add(d)
	}
}

// bury moves the message to the dead-letter topic. A letter that cannot be sent
// leaves the message in its queue, visibly.
func (d *delivery) bury(attempts int) {
	c := d.consumer
	if !d.end() {
		return
	}
	c.ending.Go(func() {
		reason := fmt.Sprintf("handed out %d times and never acknowledged", attempts)
		logger := c.broker.config.Logger.With("position", d.Position, "reason", reason)
		letter, _ := decode(&d.raw)
		adapters.KeepBrokerID(letter)
		maps.Copy(letter.Metadata, message.Metadata{
			dedup.MetaDeadReason: reason, dedup.MetaDeadTopic: c.queue.topic, dedup.MetaDeadAttempts: strconv.Itoa(attempts),
			dedup.MetaDeadPosition: d.Position, dedup.MetaDeadGroup: c.subscription.Group,
		})
		c.ending.Add(1)
		// Not through Publisher: the broker may be closing, and waits for this.
		if err := c.broker.publish(c.subscription.LetterTopic(c.queue.topic), []*message.Message{letter}); err != nil {
			logger.Error("dead-letter message: it stays in its queue", "error", err)
			d.sendBack(c.broker.config.VisibilityTimeout)
			return
		}
		logger.Error("message went to the dead-letter topic")
		c.queue.deletes.add(d)
	})
}

// delete deletes a batch. It is tried for a while; what then is not deleted comes
// again, as something processed already, and the ledger absorbs it.
func (q *queue) delete(batch []*delivery) {
	request := func(ctx context.Context, batch []*delivery) ([]types.BatchResultErrorEntry, error) {
		input := &sqs.DeleteMessageBatchInput{QueueUrl: &q.url}
		for i, d := range batch {
			input.Entries = append(input.Entries, types.DeleteMessageBatchRequestEntry{Id: &entryIDs[i], ReceiptHandle: aws.String(d.receipt())})
		}
		output, err := q.broker.client.DeleteMessageBatch(ctx, input)
		if err != nil {
			return nil, err
		}
		return output.Failed, nil
	}
	q.settle(&q.deletes, batch, request, func(d *delivery, err error) {
		if err != nil {
			q.broker.config.Logger.Warn("delete message: it will come again, as a duplicate", "position", d.Position, "error", err)
		} else {
			_ = failpoint.Hit(failpoint.AfterAck)
		}
		d.consumer.release(d, false)
		d.consumer.ending.Done()
	})
}

// giveBack makes a batch visible to others.
func (q *queue) giveBack(batch []*delivery) {
	request := func(ctx context.Context, batch []*delivery) ([]types.BatchResultErrorEntry, error) {
		return q.setVisibility(ctx, batch, func(d *delivery) time.Duration { return d.back })
	}
	q.settle(&q.returns, batch, request, func(d *delivery, err error) {
		if err != nil {
			q.broker.config.Logger.Warn("give message back: it comes again when its visibility runs out", "position", d.Position, "error", err)
		}
		d.consumer.release(d, true)
		d.consumer.ending.Done()
	})
}

// setVisibility says for how long messages are hidden from others.
func (q *queue) setVisibility(ctx context.Context, batch []*delivery, hidden func(*delivery) time.Duration) ([]types.BatchResultErrorEntry, error) {
	input := &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &q.url}
	for i, d := range batch {
		input.Entries = append(input.Entries, types.ChangeMessageVisibilityBatchRequestEntry{
			Id: &entryIDs[i], ReceiptHandle: aws.String(d.receipt()), VisibilityTimeout: int32(seconds(hidden(d))),
		})
	}
	output, err := q.broker.client.ChangeMessageVisibilityBatch(ctx, input)
	if err != nil {
		return nil, err
	}
	return output.Failed, nil
}

type batchRequest func(context.Context, []*delivery) (failed []types.BatchResultErrorEntry, err error)

// settle makes a request for a batch until every entry is done with: it succeeded,
// it failed for good, or the time for it is up.
func (q *queue) settle(of *batcher[*delivery], batch []*delivery, request batchRequest, done func(*delivery, error)) {
	b := q.broker
	for deadline, wait := time.Now().Add(b.config.Retry), time.Duration(0); ; {
		again, answered, err := q.settleOnce(batch, request, done)
		if len(again) == 0 {
			return
		}
		wait = longer(wait)
		if time.Now().Add(wait).After(deadline) || !of.pause(b.ctx.Done(), wait, answered, batch, again) {
			for _, d := range again {
				done(d, err)
			}
			return
		}
		b.config.Logger.Debug("settle messages: trying again", "queue", q.name, "messages", len(again), "error", err)
		batch = again
	}
}

// settleOnce returns what is worth another try, whether SQS has answered, and the last
// reason.
func (q *queue) settleOnce(batch []*delivery, request batchRequest, done func(*delivery, error)) (again []*delivery, answered bool, reason error) {
	ctx, cancel := context.WithTimeout(context.Background(), q.broker.config.Timeout)
	defer cancel()
	failures, err := request(ctx, batch)
	if passing(err) {
		return batch, false, err
	}
	failed := make(map[string]types.BatchResultErrorEntry, len(failures))
	for _, failure := range failures {
		failed[*failure.Id] = failure
	}
	for i, d := range batch {
		failure, isFailed := failed[entryIDs[i]]
		if !isFailed {
			done(d, err)
			continue
		}
		passes, err := entryError(failure)
		if passes {
			again, reason = append(again, d), err
		} else {
			done(d, err)
		}
	}
	return again, true, reason
}

// entryIDs are the IDs of a batch's entries.
var entryIDs = func() (ids [batchLimit]string) {
	for i := range ids {
		ids[i] = strconv.Itoa(i)
	}
	return ids
}()
