package kafka

import (
	"context"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
)

// subscriber implements message.Subscriber. Every call of Subscribe is a member of
// the group of its own.
type subscriber struct {
	broker       *Broker
	subscription adapters.Subscription
	consumers    adapters.Consumers[*consumer]
}

// Subscribe hands out the topic's messages, from the first one that is stored on,
// for a group that never read it. It returns when the group has taken the member
// in. When ctx ends, the subscription drains and the channel closes.
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
	return c.out, nil
}

// SubscribeInitialize implements message.SubscribeInitializer: it makes sure that
// the topic exists.
func (s *subscriber) SubscribeInitialize(topic string) error {
	name, err := s.broker.topicName(topic)
	if err == nil {
		_, err = s.broker.ready(context.Background(), name)
	}
	if err != nil {
		return fmt.Errorf("initialize topic %q: %w", topic, err)
	}
	return nil
}

// Close drains every subscription: it waits for the messages handed out, up to
// the subscription's DrainTimeout, and leaves the group.
func (s *subscriber) Close() error {
	err := s.consumers.Close()
	s.broker.mu.Lock()
	delete(s.broker.subscribers, s)
	s.broker.mu.Unlock()
	return err
}
