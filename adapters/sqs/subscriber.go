package sqs

import (
	"context"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
)

// subscriber implements message.Subscriber.
type subscriber struct {
	broker       *Broker
	subscription adapters.Subscription

	mu        sync.Mutex
	consumers map[*consumer]struct{}
	closed    bool
}

// Subscribe receives the messages of the topic's queue. It fails when another
// group of this process reads the queue already, and when the queue's settings
// lose messages. When ctx ends, the subscription drains and the channel closes.
func (s *subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
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
		case <-c.running.Done():
		}
		c.close()
		s.mu.Lock()
		delete(s.consumers, c)
		s.mu.Unlock()
		close(c.gone)
	}()
	return c.flow.Messages(), nil
}

// SubscribeInitialize implements message.SubscribeInitializer: it looks the queue
// up, and creates it if the config says so.
func (s *subscriber) SubscribeInitialize(topic string) error {
	_, err := s.broker.queue(context.Background(), topic)
	return err
}

// Close drains every subscription: it waits for the messages handed out, up to the
// subscription's DrainTimeout, and gives the rest back to the queue.
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
