package sqlite

import (
	"context"
	"errors"
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
// for a group that never read it. The topic need not exist. When ctx ends, the
// subscription drains and the channel closes.
func (s *subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if topic == "" {
		return nil, errors.New("subscribe: the topic is empty")
	}
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

// SubscribeInitialize implements message.SubscribeInitializer: it registers the
// group, so that retention keeps the topic's messages for it.
func (s *subscriber) SubscribeInitialize(topic string) error {
	_, err := s.broker.joinGroup(context.Background(), topic, s.subscription.Group)
	return err
}

// Close drains every subscription: it waits for the messages handed out, up to
// the subscription's DrainTimeout, and gives the rest back to the group.
func (s *subscriber) Close() error {
	err := s.consumers.Close()
	s.broker.mu.Lock()
	delete(s.broker.subscribers, s)
	s.broker.mu.Unlock()
	return err
}
