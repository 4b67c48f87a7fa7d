package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"

	"github.com/hapax-go/hapax/adapters"
)

// subscriber implements message.Subscriber. Every call of Subscribe is a consumer
// of the group, under a name of its own.
type subscriber struct {
	broker       *Broker
	subscription adapters.Subscription
	consumers    adapters.Consumers[*consumer]
}

// Subscribe hands out the stream's entries, from the first that is stored on, for
// a group that never read it. The stream need not exist. When ctx ends, the
// subscription drains and the channel closes.
func (s *subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if s.consumers.Closed() || s.broker.isClosed() {
		return nil, fmt.Errorf("subscribe to %q: %w", topic, ErrClosed)
	}
	c, err := s.broker.newConsumer(ctx, topic, s.subscription)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %q: %w", topic, err)
	}
	if !s.consumers.Start(ctx, c, adapters.Running{Stop: c.stop, Stopped: c.closing, Leave: c.close}) {
		return nil, fmt.Errorf("subscribe to %q: %w", topic, ErrClosed)
	}
	return c.flow.Messages(), nil
}

// SubscribeInitialize implements message.SubscribeInitializer: it creates the
// group, so that trimming keeps the stream's entries for it.
func (s *subscriber) SubscribeInitialize(topic string) error {
	return s.broker.createGroup(context.Background(), topic, s.subscription.Group)
}

// createGroup creates the group, at the stream's beginning, and the stream.
func (b *Broker) createGroup(ctx context.Context, topic, group string) error {
	if err := b.checkTopic(topic); err != nil {
		return err
	}
	err := b.insist(ctx, func() error { return b.client.XGroupCreateMkStream(ctx, topic, group, "0").Err() })
	if err != nil && !redis.HasErrorPrefix(err, "BUSYGROUP") {
		return fmt.Errorf("create group %q of stream %q: %w", group, topic, permission(b.config, err))
	}
	return nil
}

// insist repeats a step that may be repeated, for up to Config.Timeout, while the
// network fails it. What the server itself says is final.
func (b *Broker) insist(ctx context.Context, step func() error) error {
	deadline := time.Now().Add(b.config.Timeout)
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := step()
		var answer redis.Error
		if err == nil || errors.As(err, &answer) || ctx.Err() != nil || time.Now().Add(pause).After(deadline) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// Close drains every subscription: it waits for the messages handed out, up to
// the subscription's DrainTimeout, and leaves the rest to the group.
func (s *subscriber) Close() error {
	err := s.consumers.Close()
	s.broker.mu.Lock()
	delete(s.broker.subscribers, s)
	s.broker.mu.Unlock()
	return err
}
