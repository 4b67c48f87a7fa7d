package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// What an operator asks for.

func (b *Broker) browsed(ctx context.Context, queue string, received *amqp.Delivery) *message.Message {
	msg := decode(received)
	msg.SetContext(adapters.WithDelivery(ctx, &adapters.Delivery{Attempt: b.returned(received) + 1, Position: fmt.Sprintf("%s@%d", queue, received.DeliveryTag)}))
	return msg
}

// Browse implements adapters.Browser: through a queue of its own, which the server
// removes when the connection ends. RabbitMQ keeps no messages for later readers,
// so it shows what is published from now on.
func (b *Broker) Browse(ctx context.Context, topic string, options adapters.Browse, each func(*message.Message) error) error {
	if !options.Follow {
		return fmt.Errorf("read topic %q: %w: RabbitMQ keeps messages in the queues of groups only, and reading one takes them; follow the topic to see what is published from now on", topic, adapters.ErrNotBrowsable)
	}
	exchange, err := exchangeName(topic)
	if err != nil {
		return err
	}
	conn, err := b.consuming.get(ctx)
	if err != nil {
		return err
	}
	channel, err := conn.Channel()
	if err != nil {
		return fmt.Errorf("read topic %q: %w", topic, err)
	}
	defer channel.Close()
	queue, err := channel.QueueDeclare("", false, true, true, false, nil)
	if err == nil {
		err = channel.QueueBind(queue.Name, "", exchange, false, nil)
	}
	var deliveries <-chan amqp.Delivery
	if err == nil {
		deliveries, err = channel.Consume(queue.Name, "", true, true, false, false, nil)
	}
	var reason *amqp.Error
	if errors.As(err, &reason) && reason.Code == amqp.NotFound {
		return fmt.Errorf("read topic %q: it has no exchange yet: start a consumer of the topic first, which declares it", topic)
	}
	if err != nil {
		return fmt.Errorf("read topic %q: %w", topic, err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case received, open := <-deliveries:
			if !open {
				return fmt.Errorf("read topic %q: the connection was lost", topic)
			}
			msg := b.browsed(ctx, exchange, &received)
			if published, err := time.Parse(time.RFC3339Nano, msg.Metadata.Get(dedup.MetaPublishedAt)); err == nil && published.Before(options.From) {
				continue
			}
			if err := each(msg); err != nil {
				return err
			}
		}
	}
}

// Letters implements adapters.LetterBox. It goes through the queue that keeps a
// topic's letters and takes each; those that stay are given back at the end, in
// their order, and the server counts that as a delivery. Meanwhile nobody else sees
// them; when it returns they are back.
func (b *Broker) Letters(ctx context.Context, topic string, visit func(*message.Message) (bool, error)) error {
	queue, err := exchangeName(topic)
	if err != nil {
		return err
	}
	conn, err := b.consuming.get(ctx)
	if err != nil {
		return err
	}
	waiting, err := waitingIn(conn, queue)
	var reason *amqp.Error
	if errors.As(err, &reason) && reason.Code == amqp.NotFound {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up queue %q: %w", queue, err)
	}
	stay := 0
	err = onChannel(conn, func(channel *amqp.Channel) error {
		for range waiting {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			received, found, err := channel.Get(queue, false)
			if err != nil {
				return fmt.Errorf("read queue %q: %w", queue, err)
			}
			if !found {
				return nil
			}
			remove, err := visit(b.browsed(ctx, queue, &received))
			if err != nil {
				return err
			}
			if !remove {
				stay++
				continue // the end of the channel gives it back
			}
			if err := received.Ack(false); err != nil {
				return fmt.Errorf("remove message from queue %q: %w", queue, err)
			}
		}
		return nil
	})
	// A quorum queue answers the end of a channel before it has agreed on what comes
	// back; the next look would find nothing. Somebody else may have taken it since.
	for deadline := time.Now().Add(returnWait); err == nil && time.Now().Before(deadline); {
		if waiting, err = waitingIn(conn, queue); err == nil && waiting >= stay {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
	return err
}

// returnWait bounds the wait for what was looked at to be back in its queue.
const returnWait = 2 * time.Second

// waitingIn counts the messages of a queue that nobody has been given.
func waitingIn(conn *amqp.Connection, queue string) (count int, err error) {
	err = onChannel(conn, func(channel *amqp.Channel) error {
		found, err := channel.QueueDeclarePassive(queue, true, false, false, false, nil)
		count = found.Messages
		return err
	})
	return count, err
}
