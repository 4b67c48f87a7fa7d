package sqs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/hapax-go/hapax/adapters"
)

// What an operator asks for.

// Browse implements adapters.Browser: it cannot.
func (b *Broker) Browse(_ context.Context, topic string, _ adapters.Browse, _ func(*message.Message) error) error {
	return fmt.Errorf("read topic %q: %w: SQS shows a message only by handing it out, which hides it from consumers and counts as a receive; its console's \"poll for messages\" does the same", topic, adapters.ErrNotBrowsable)
}

const (
	// letterHidden is how long letters that are looked at are hidden from others. A
	// killed process leaves them hidden for as long.
	letterHidden = 5 * time.Minute
	// letterWait is how long a receive waits, so that it asks all of SQS's servers.
	letterWait = time.Second
	// laterPolls is how many polls in a row may bring only letters that came after the call
	// began: earlier ones may be behind them, but they may also go on for ever.
	laterPolls = 10
)

// Letters implements adapters.LetterBox. It receives every letter; those that stay
// are made visible again at the end. A FIFO queue hands out no later letters of a
// group before the earlier ones are removed, so of each group it shows up to ten.
func (b *Broker) Letters(ctx context.Context, topic string, visit func(*message.Message) (bool, error)) (err error) {
	q, err := b.existing(ctx, topic)
	if q == nil || err != nil {
		return err
	}
	began := time.Now()
	kept := map[string]string{} // receipt handles by message ID
	removed := 0
	defer func() { err = errors.Join(err, q.show(ctx, kept)) }()
	for later := 0; later < laterPolls; {
		output, err := q.receiveLetters(ctx)
		if err != nil {
			return fmt.Errorf("read queue %q: %w", q.name, err)
		}
		until := byService(began, output)
		var news []*types.Message
		unseen := false
		for i := range output.Messages { // all, before any is shown: none stays hidden for whoever has seen enough
			raw := &output.Messages[i]
			id := aws.ToString(raw.MessageId)
			_, again := kept[id]
			kept[id] = aws.ToString(raw.ReceiptHandle) // until it is removed; the newest counts
			sent, _ := strconv.ParseInt(raw.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)], 10, 64)
			unseen = unseen || !again
			if !again && !time.UnixMilli(sent).After(until) {
				news = append(news, raw)
			}
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read queue %q: %w", q.name, err)
		}
		if !unseen { // a poll that waits asks all of SQS's servers
			break
		}
		if later++; len(news) > 0 {
			later = 0
		}
		for _, raw := range news {
			id := aws.ToString(raw.MessageId)
			msg, err := decode(raw)
			if err != nil {
				b.config.Logger.Warn("decode letter: it is shown as it is", "queue", q.name, "id", id, "error", err)
			}
			msg.SetContext(adapters.WithDelivery(ctx, &adapters.Delivery{Attempt: 1, Position: q.name + "@" + id}))
			remove, err := visit(msg)
			if err != nil {
				return err
			}
			if !remove {
				continue
			}
			if err := q.removeLetter(ctx, raw); err != nil {
				return fmt.Errorf("remove letter %s from queue %q: %w", id, q.name, err)
			}
			delete(kept, id)
			removed++
		}
	}
	if removed == 0 { // else SQS may still count those, for a minute
		q.tellHidden(ctx, int64(len(kept)))
	}
	return nil
}

// receiveLetters asks for letters once. What is on its way is not cut off when ctx ends: the
// service would go on with it, and hide the letters from everybody. An answer that is lost
// has hidden them too: a FIFO queue gives them again under the same attempt ID.
func (q *queue) receiveLetters(ctx context.Context) (*sqs.ReceiveMessageOutput, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	input := &sqs.ReceiveMessageInput{
		QueueUrl: &q.url, MaxNumberOfMessages: batchLimit, WaitTimeSeconds: int32(seconds(letterWait)), VisibilityTimeout: int32(seconds(letterHidden)),
		MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: systemAttributes,
	}
	if q.fifo {
		input.ReceiveRequestAttemptId = aws.String(watermill.NewUUID())
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), letterWait+q.broker.config.Timeout)
	defer cancel()
	output, err := q.broker.client.ReceiveMessage(ctx, input)
	if err != nil {
		return nil, err
	}
	attempts, _ := retry.GetAttemptResults(output.ResultMetadata)
	if !q.fifo && slices.ContainsFunc(attempts.Results, func(r retry.AttemptResult) bool { return r.Err != nil && errorCode(r.Err) == "" }) {
		q.broker.config.Logger.Warn(fmt.Sprintf("an answer was lost on its way: up to %d letters may stay hidden for up to %s", batchLimit, letterHidden), "queue", q.name)
	}
	return output, nil
}

// byService is a time by the clock of a service that has answered, which dates letters. One
// that is behind shows letters that come meanwhile as well, for as long as it is behind. An
// answer says its time to the second.
func byService(at time.Time, output *sqs.ReceiveMessageOutput) time.Time {
	if ahead, told := middleware.GetAttemptSkew(output.ResultMetadata); told && ahead > 0 {
		return at.Add(ahead + time.Second)
	}
	return at
}

// removeLetter deletes a letter that was visited, also when ctx has ended since.
func (q *queue) removeLetter(ctx context.Context, raw *types.Message) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), q.broker.config.Timeout)
	defer cancel()
	_, err := q.broker.client.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &q.url, ReceiptHandle: raw.ReceiptHandle})
	return err
}

// tellHidden tells of letters that were not seen because somebody else has received them:
// there seem to be none, or fewer than there are. It is no more than a hint: SQS counts
// approximately, and whoever may receive need not be allowed to ask.
func (q *queue) tellHidden(ctx context.Context, kept int64) {
	ctx, cancel := context.WithTimeout(ctx, q.broker.config.Timeout)
	defer cancel()
	if backlog, err := q.backlog(ctx); err == nil && backlog.InFlight > kept {
		q.broker.config.Logger.Warn(fmt.Sprintf("about %d more letters are hidden: another command is looking at them, one was killed while it did (they come back within %s), or they were removed a moment ago",
			backlog.InFlight-kept, letterHidden), "queue", q.name)
	}
}

// show makes messages visible again, also when ctx has ended.
func (q *queue) show(ctx context.Context, handles map[string]string) error {
	var batch []types.ChangeMessageVisibilityBatchRequestEntry
	var errs []error
	flush := func() {
		if len(batch) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), q.broker.config.Timeout)
		defer cancel()
		answer, err := q.broker.client.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &q.url, Entries: batch})
		hidden := len(batch)
		if err == nil {
			hidden, err = notServed(answer.Failed)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("give %d letters back to queue %q: they stay hidden for up to %s: %w", hidden, q.name, letterHidden, err))
		}
		batch = nil
	}
	for _, handle := range handles {
		batch = append(batch, types.ChangeMessageVisibilityBatchRequestEntry{Id: &entryIDs[len(batch)], ReceiptHandle: &handle, VisibilityTimeout: 0})
		if len(batch) == batchLimit {
			flush()
		}
	}
	flush()
	return errors.Join(errs...)
}

// notServed counts the entries of a batch that SQS did not serve. Those at which the sender
// is at fault are no longer hidden: somebody else has removed the letter.
func notServed(failed []types.BatchResultErrorEntry) (count int, err error) {
	for _, entry := range failed {
		if !entry.SenderFault {
			count++
			err = fmt.Errorf("%s: %s", aws.ToString(entry.Code), aws.ToString(entry.Message))
		}
	}
	return count, err
}
