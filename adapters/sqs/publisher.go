package sqs

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
)

// publisher implements message.Publisher.
type publisher struct {
	broker *Broker
	closed atomic.Bool
}

// Publish sends the messages, together with those of concurrent calls, in batches
// of ten, and returns when SQS has stored them all. After an error some may be in
// the queue, any of them; publishing them again makes copies with the same event
// IDs, which a FIFO queue drops for five minutes and consumers see through.
//
// To a FIFO queue, messages of one key are sent one after the other: the entries of
// one batch can fail singly, and a later message must not overtake an earlier one. When
// one is not sent, those of its key behind it are not either.
func (p *publisher) Publish(topic string, messages ...*message.Message) error {
	b := p.broker
	if p.closed.Load() || !b.begin() {
		return fmt.Errorf("publish to %q: %w", topic, ErrClosed)
	}
	defer b.sending.Done()
	if err := failpoint.Hit(failpoint.BeforePublish); err != nil {
		return err
	}
	if err := b.publish(topic, messages); err != nil {
		return err
	}
	return failpoint.Hit(failpoint.AfterPublish)
}

func (b *Broker) publish(topic string, messages []*message.Message) error {
	if len(messages) == 0 {
		return nil
	}
	if _, err := b.config.QueueName(topic); err != nil {
		return fmt.Errorf("publish: %w: %w", dedup.ErrBadOutput, err)
	}
	q, err := b.queue(b.ctx, topic)
	if err != nil {
		return fmt.Errorf("publish to %q: %w", topic, err)
	}
	sendings := make([]*sending, len(messages))
	last := map[string]*sending{} // of each group
	var sent sync.WaitGroup
	for i, msg := range messages {
		m, err := q.encode(msg)
		if err != nil {
			return err
		}
		sendings[i] = &sending{encoded: m, done: sent.Done}
		if q.fifo {
			sendings[i].after = last[m.group]
			last[m.group] = sendings[i]
		}
	}
	sent.Add(len(sendings))
	q.sends.add(sendings...)
	sent.Wait()
	var failed []error
	for _, s := range sendings {
		if s.err != nil {
			failed = append(failed, s.err)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("publish to %q: %d of %d messages were not sent: %w", topic, len(failed), len(messages), distinct(failed))
	}
	return nil
}

// begin registers a call of Publish, so that Close waits for it.
func (b *Broker) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.sending.Add(1)
	}
	return !b.closed
}

// distinct joins errors, each text once: a batch fails for one reason mostly.
func distinct(errs []error) error {
	var kept []error
	seen := map[string]bool{}
	for _, err := range errs {
		if !seen[err.Error()] {
			seen[err.Error()] = true
			kept = append(kept, err)
		}
	}
	return errors.Join(kept...)
}

// Close makes later calls of Publish fail. The broker stays open.
func (p *publisher) Close() error {
	p.closed.Store(true)
	return nil
}
