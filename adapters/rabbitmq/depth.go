package rabbitmq

import (
	"context"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Depth is what the server says of a group's queue. Messages that consumers hold
// and have not acknowledged are in none of the counts: AMQP does not tell.
type Depth struct {
	// Ready messages wait for a consumer.
	Ready int
	// Consumers are connected.
	Consumers int
}

// Depth asks for the backlog of a group on a topic.
func (b *Broker) Depth(ctx context.Context, topic, group string) (Depth, error) {
	name, err := queueName(topic, group)
	if err != nil {
		return Depth{}, err
	}
	conn, err := b.consuming.get(ctx)
	if err != nil {
		return Depth{}, err
	}
	var queue amqp.Queue
	err = onChannel(conn, func(channel *amqp.Channel) (err error) {
		queue, err = channel.QueueDeclarePassive(name, true, false, false, false, nil)
		return err
	})
	if err != nil {
		return Depth{}, fmt.Errorf("inspect queue %q: %w", name, err)
	}
	return Depth{Ready: queue.Messages, Consumers: queue.Consumers}, nil
}
