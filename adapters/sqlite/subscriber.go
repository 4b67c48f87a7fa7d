package sqlite

import (
	"context"
	"errors"
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
// for a group that never read it. The topic need not exist. When ctx ends, the
// subscription drains and the channel closes.
func (s *subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if topic == "" {
		return nil, errors.New("subscribe: the topic is empty")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.broker.isClosed() {
		return nil, fmt.Errorf("subscribe to %q: %w", topic, ErrClosed)
	}
	c, err := s.broker.newConsumer(ctx, topic, s.subscription)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %q: %w", topic, err)
	}
	s.consumers[c] = struct{}{}
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
	var failure error
	for _, c := range consumers {
		<-c.gone
		failure = errors.Join(failure, c.failure)
	}
	s.broker.mu.Lock()
	delete(s.broker.subscribers, s)
	s.broker.mu.Unlock()
	return failure
}
