package rabbitmq

import (
	"context"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
)

// subscriber implements message.Subscriber. Every call of Subscribe is a consumer
// of the group's queue of its own.
type subscriber struct {
	broker       *Broker
	subscription adapters.Subscription
	consumers    adapters.Consumers[*consumer]
}

// Subscribe declares the group's queue and hands out its messages: those
// published since the queue exists. When ctx ends, the subscription drains and
// the channel closes.
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

// SubscribeInitialize implements message.SubscribeInitializer: it declares the
// group's queue, which collects messages from then on.
func (s *subscriber) SubscribeInitialize(topic string) error {
	if _, err := s.broker.declare(s.broker.ctx, topic, s.subscription); err != nil {
		return fmt.Errorf("prepare subscription to %q: %w", topic, err)
	}
	return nil
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
