package kafka

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hapax-go/hapax/internal/failpoint"
)

// publisher implements message.Publisher outside of transactions: idempotent, and
// acknowledged by all replicas in sync. Single messages of concurrent callers travel in
// common batches.
type publisher struct {
	broker *Broker
	closed atomic.Bool
}

// Publish returns when the messages are durable, after Config.DeliveryTimeout, or when
// the broker is closed. On an error some of them may be published, of each partition those
// that come first; publish them again with the same event IDs. Single messages that others
// publish to the same partitions meanwhile fail with those whose time is over, or they would
// overtake them.
func (p *publisher) Publish(topic string, messages ...*message.Message) error {
	if p.closed.Load() || p.broker.isClosed() {
		return fmt.Errorf("publish to %q: %w", topic, ErrClosed)
	}
	if len(messages) == 0 {
		return nil
	}
	// The contexts of the messages do not count: a record on its way cannot be
	// withdrawn. That the broker closes needs none either, it ends everything that its
	// client has under way.
	timeout := p.broker.config.DeliveryTimeout
	ctx, cancel := context.WithTimeoutCause(context.Background(), timeout, fmt.Errorf("kafka has not confirmed the messages within %s: %w", timeout, context.DeadlineExceeded))
	defer cancel()
	records := make([]*kgo.Record, len(messages))
	for i, msg := range messages {
		var err error
		if records[i], err = p.broker.encode(topic, msg); err != nil {
			return fmt.Errorf("publish to %q: %w", topic, err)
		}
	}
	name := records[0].Topic
	if _, err := p.broker.ready(ctx, name); err != nil {
		return fmt.Errorf("publish to %q: %w", topic, explain(ctx, err))
	}
	if err := failpoint.Hit(failpoint.BeforePublish); err != nil {
		return err
	}
	if err := p.broker.produce(ctx, name, records); err != nil {
		return fmt.Errorf("publish %d messages to %q: %w", len(messages), topic, explain(ctx, err))
	}
	return failpoint.Hit(failpoint.AfterPublish)
}

// explain adds why a context ended.
func explain(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("%w: %w", context.Cause(ctx), err)
}

// Close makes later calls of Publish fail. The broker stays open.
func (p *publisher) Close() error {
	p.closed.Store(true)
	return nil
}
