package kafka

import (
	"context"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
)

// subscriber implements message.Subscriber. Every call of Subscribe is a member of
// the group of its own.
type subscriber struct {
	broker       *Broker
	subscription adapters.Subscription

	mu        sync.Mutex
	consumers map[*consumer]struct{}
	closed    bool
}

// Subscribe hands out the topic's messages, from the first one that is stored on,
// for a group that never read it. It returns when the group has taken the member
// in. When ctx ends, the subscription drains and the channel closes.
func (s *subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if s.isClosed() {
		return nil, fmt.Errorf("subscribe to %q: %w", topic, ErrClosed)
	}
	c, err := s.broker.newConsumer(ctx, topic, s.subscription)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %q: %w", topic, err)
	}
	s.mu.Lock()
	s.consumers[c] = struct{}{}
	if s.closed { // meanwhile
		c.stop()
	}
	s.mu.Unlock()
	go func() {
		select {
		case <-ctx.Done():
		case <-c.closing:
		}
		c.close()
		s.mu.Lock()
		delete(s.consumers, c)
		s.mu.Unlock()
		close(c.gone)
	}()
	return c.out, nil
}

func (s *subscriber) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed || s.broker.isClosed()
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
	s.mu.Lock()
	s.closed = true
	consumers := make([]*consumer, 0, len(s.consumers))
	for c := range s.consumers {
		consumers = append(consumers, c)
	}
	s.mu.Unlock()
	for _, c := range consumers {
		c.stop()
	}
	for _, c := range consumers {
		<-c.gone
	}
	s.broker.mu.Lock()
	delete(s.broker.subscribers, s)
	s.broker.mu.Unlock()
	return nil
}
