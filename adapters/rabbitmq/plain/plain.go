// Package plain is RabbitMQ without Hapax: the ends of the official Watermill
// adapter, a loop by hand, and an independent look at what is in a queue. Demo and
// benchmarks compare with it.
package plain

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/ThreeDotsLabs/watermill"
	wmamqp "github.com/ThreeDotsLabs/watermill-amqp/v2/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
)

// Server says where RabbitMQ is.
type Server struct {
	// URL is its amqp:// URL, and VHost replaces the URL's virtual host unless
	// empty.
	URL, VHost string
}

func (s Server) url() string {
	parsed, err := url.Parse(s.URL)
	if err != nil || s.VHost == "" {
		return s.URL
	}
	parsed.Path = "/" + s.VHost
	return parsed.String()
}

func (s Server) config(group string) wmamqp.Config {
	config := wmamqp.NewDurablePubSubConfig(s.url(), wmamqp.GenerateQueueNameTopicNameWithSuffix(group))
	config.Marshaler = marshaler{}
	return config
}

// marshaler is the official one, able to read what comes again from a quorum queue.
// Such a message has a header x-delivery-count, a number; the official marshaler
// refuses every header that is not a string, the official subscriber then gives the
// message back, and gets it again at once, for ever.
type marshaler struct{ wmamqp.DefaultMarshaler }

func (m marshaler) Unmarshal(delivery amqp.Delivery) (*message.Message, error) {
	delete(delivery.Headers, "x-delivery-count")
	return m.DefaultMarshaler.Unmarshal(delivery)
}

// Publisher opens the official publisher. Confirms are off, as by default: with
// them on a serial consumer waits for the disk for every message.
func (s Server) Publisher() (message.Publisher, error) {
	config := s.config("")
	config.Publish.ChannelPoolSize = 4 // without a pool it opens a channel for every message
	publisher, err := wmamqp.NewPublisher(config, watermill.NopLogger{})
	if err != nil {
		return nil, errors.New("open official publisher: no connection") // its error has the URL
	}
	return publisher, nil
}

// Subscriber opens the official subscriber of a group.
func (s Server) Subscriber(group string, prefetch int) (message.Subscriber, error) {
	config := s.config(group)
	config.Consume.Qos.PrefetchCount = prefetch
	config.Queue.Arguments = amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum}
	subscriber, err := wmamqp.NewSubscriber(config, watermill.NopLogger{})
	if err != nil {
		return nil, errors.New("open official subscriber: no connection")
	}
	return subscriber, nil
}

// Do runs work on a channel of a connection of its own.
func (s Server) Do(work func(*amqp.Channel) error) error {
	conn, err := amqp.Dial(s.url())
	if err != nil {
		return fmt.Errorf("connect to rabbitmq: %w", err)
	}
	defer conn.Close()
	channel, err := conn.Channel()
	if err != nil {
		return fmt.Errorf("open channel: %w", err)
	}
	return work(channel)
}

// Declare makes a topic's exchange anew, with a quorum queue bound to it.
func (s Server) Declare(topic, queue string) error {
	return s.Do(func(channel *amqp.Channel) error {
		if _, err := channel.QueueDelete(queue, false, false, false); err != nil {
			return fmt.Errorf("delete queue %s: %w", queue, err)
		}
		if err := channel.ExchangeDeclare(topic, amqp.ExchangeFanout, true, false, false, false, nil); err != nil {
			return fmt.Errorf("declare exchange %s: %w", topic, err)
		}
		if _, err := channel.QueueDeclare(queue, true, false, false, false, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum}); err != nil {
			return fmt.Errorf("declare queue %s: %w", queue, err)
		}
		return channel.QueueBind(queue, "", topic, false, nil)
	})
}

// Delete deletes queues.
func (s Server) Delete(queues ...string) error {
	return s.Do(func(channel *amqp.Channel) error {
		for _, queue := range queues {
			if _, err := channel.QueueDelete(queue, false, false, false); err != nil {
				return fmt.Errorf("delete queue %s: %w", queue, err)
			}
		}
		return nil
	})
}

// Empty takes everything out of a queue, in order.
func (s Server) Empty(queue string) (messages []*message.Message, err error) {
	err = s.Do(func(channel *amqp.Channel) error {
		for {
			delivery, found, err := channel.Get(queue, true)
			if err != nil {
				return fmt.Errorf("get from queue %s: %w", queue, err)
			}
			if !found {
				return nil
			}
			msg, err := marshaler{}.Unmarshal(delivery)
			if err != nil {
				return fmt.Errorf("read message of queue %s: %w", queue, err)
			}
			messages = append(messages, msg)
		}
	})
	return messages, err
}

// Length is the number of ready messages in a queue.
func (s Server) Length(queue string) (length int, err error) {
	err = s.Do(func(channel *amqp.Channel) error {
		inspected, err := channel.QueueDeclarePassive(queue, true, false, false, false, nil)
		length = inspected.Messages
		return err
	})
	return length, err
}
