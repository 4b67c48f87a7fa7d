package sqs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// sending is a message on its way to SQS.
type sending struct {
	encoded
	// after is the message before it of its group, of the same call; nil: none.
	after *sending
	err   error // set before done
	done  func()
}

func (s *sending) end(err error) {
	s.err = err
	s.done()
}

// send sends a batch. What failed for a passing reason is sent again, after a pause
// that grows; the rest ends. It returns when all have ended.
func (q *queue) send(batch []*sending) {
	if batch = inOrder(batch); len(batch) == 0 {
		return
	}
	b := q.broker
	for deadline, wait := time.Now().Add(b.config.Retry), time.Duration(0); ; {
		failed, answered, err := q.sendOnce(batch)
		if len(failed) == 0 {
			return
		}
		wait = longer(wait)
		if time.Now().Add(wait).After(deadline) || !q.sends.pause(b.ctx.Done(), wait, answered, batch, failed) {
			for _, s := range failed {
				s.end(err)
			}
			return
		}
		b.config.Logger.Debug("send messages: trying again", "queue", q.name, "messages", len(failed), "error", err)
		batch = failed
	}
}

// inOrder ends what is behind a message of its group that was not sent, and returns the
// rest: the caller will send that message again, and it must not come after them.
func inOrder(batch []*sending) (sendable []*sending) {
	for _, s := range batch {
		if s.after != nil && s.after.err != nil {
			s.end(s.after.err)
			continue
		}
		sendable = append(sendable, s)
	}
	return sendable
}

// sendOnce returns the messages worth another try, whether SQS has answered, and the
// reason for the last of them.
func (q *queue) sendOnce(batch []*sending) (again []*sending, answered bool, reason error) {
	entries := make([]types.SendMessageBatchRequestEntry, len(batch))
	for i, s := range batch {
		entries[i] = types.SendMessageBatchRequestEntry{Id: &entryIDs[i], MessageBody: &s.body, MessageAttributes: s.attributes}
		if q.fifo {
			entries[i].MessageDeduplicationId, entries[i].MessageGroupId = &s.deduplication, &s.group
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), q.broker.config.Timeout)
	defer cancel()
	output, err := q.broker.client.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: &q.url, Entries: entries})
	if err != nil {
		if passing(err) {
			return batch, false, err
		}
		if missing(err) {
			q.broker.forget(q)
			err = fmt.Errorf("queue %q is gone: %w", q.name, err)
		}
		for _, s := range batch {
			s.end(err)
		}
		return nil, true, err
	}
	left := make(map[string]*sending, len(batch))
	for i, s := range batch {
		left[entryIDs[i]] = s
	}
	for _, stored := range output.Successful {
		left[*stored.Id].end(nil)
		delete(left, *stored.Id)
	}
	for _, failure := range output.Failed {
		s := left[*failure.Id]
		passes, err := entryError(failure)
		if passes {
			reason = err
		} else {
			s.end(err)
			delete(left, *failure.Id)
		}
	}
	if len(left) > 0 && reason == nil {
		reason = errors.New("SQS said nothing about some entries of a batch")
	}
	for i, s := range batch { // in their order
		if left[entryIDs[i]] != nil {
			again = append(again, s)
		}
	}
	return again, true, reason
}
