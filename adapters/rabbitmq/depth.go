package rabbitmq

import (
	"context"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/hapax-go/hapax/adapters"
)

// Depth is what the server says of a group's queues. Messages that consumers hold
// and have not acknowledged are in none of the counts: AMQP does not tell.
type Depth struct {
	// Ready messages wait for a consumer.
	Ready int
	// Consumers are connected.
	Consumers int
}

// Depth asks for the backlog of a subscription's group on a topic.
func (b *Broker) Depth(ctx context.Context, topic string, subscription adapters.Subscription) (depth Depth, err error) {
	queues, err := b.groupQueues(topic, subscription)
	if err != nil {
		return Depth{}, err
	}
	conn, err := b.consuming.get(ctx)
	if err != nil {
		return Depth{}, err
	}
	for _, name := range queues {
		queue, err := inspect(conn, name)
		if err != nil {
			return Depth{}, err
		}
		depth.Ready, depth.Consumers = depth.Ready+queue.Messages, queue.Consumers
	}
	if b.partitions(subscription) > 0 { // each has one member, and a member several
		name, err := queueVariant(topic, "%members", subscription.Group)
		if err != nil {
			return Depth{}, err
		}
		members, err := inspect(conn, name)
		if err != nil {
			return Depth{}, err
		}
		depth.Consumers = members.Consumers
	}
	return depth, nil
}

func inspect(conn *amqp.Connection, name string) (queue amqp.Queue, err error) {
	err = onChannel(conn, func(channel *amqp.Channel) error {
		queue, err = channel.QueueDeclarePassive(name, true, false, false, false, nil)
		return err
	})
	return queue, wrap(err, "inspect queue %q", name)
}
