package sqs

import (
	"context"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
)

// subscriber implements message.Subscriber.
type subscriber struct {
	broker       *Broker
	subscription adapters.Subscription
	consumers    adapters.Consumers[*consumer]
}

// Subscribe receives the messages of the topic's queue. It fails when another
// group of this process reads the queue already, and when the queue's settings
// lose messages. When ctx ends, the subscription drains and the channel closes.
func (s *subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if s.consumers.Closed() || s.broker.isClosed() {
		return nil, fmt.Errorf("subscribe to %q: %w", topic, ErrClosed)
	}
	c, err := s.broker.newConsumer(ctx, topic, s.subscription)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %q: %w", topic, err)
	}
	if !s.consumers.Start(ctx, c, adapters.Running{Stop: c.stop, Stopped: c.running.Done(), Leave: c.close}) {
		return nil, fmt.Errorf("subscribe to %q: %w", topic, ErrClosed)
	}
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
	err := s.consumers.Close()
	s.broker.mu.Lock()
	delete(s.broker.subscribers, s)
	s.broker.mu.Unlock()
	return err
}
