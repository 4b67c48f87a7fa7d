package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// PartitionBy says how the messages of a group are dealt to its partitions.
type PartitionBy string

const (
	// BySlots needs no plugin: the producer hashes the key to one of 256 slots, its
	// routing key, and each partition is bound to its share of them.
	BySlots PartitionBy = "slots"
	// ByConsistentHash lets the server hash the routing key, with its plugin
	// rabbitmq_consistent_hash_exchange. Messages of other programs are spread by
	// the routing keys that they have.
	ByConsistentHash PartitionBy = "consistent-hash"
)

// slots is how many routing keys there are. It must not change: producers and
// consumers would disagree about it.
const slots = 256

// routingKey is the slot of a message's key, of its event ID when it has no key, and
// else of its UUID. A fanout exchange ignores it; a group's partitions do not.
func routingKey(msg *message.Message, eventID string) string {
	key := msg.Metadata.Get(dedup.MetaKey)
	if key == "" {
		key = eventID
	}
	if key == "" {
		key = msg.UUID
	}
	hash := uint32(2166136261) // FNV-1a, without an allocation
	for i := range len(key) {
		hash = (hash ^ uint32(key[i])) * 16777619
	}
	return strconv.Itoa(int(hash % slots))
}

// partitions is how many queues a subscription's group has instead of one; zero:
// one. Without order there is nothing to gain from them.
func (b *Broker) partitions(subscription adapters.Subscription) int {
	if subscription.Ordering == adapters.Unordered {
		return 0
	}
	return b.config.Partitions
}

// partitionName is the queue of a group's partition.
func partitionName(topic, group string, number int) (string, error) {
	return queueVariant(topic, "%partition-"+strconv.Itoa(number), group)
}

// holdersName is the queue by which the holders of a partition are counted.
func holdersName(topic, group string, number int) (string, error) {
	return queueVariant(topic, "%holders-"+strconv.Itoa(number), group)
}

// groupQueues are the queues that a group's messages wait in.
func (b *Broker) groupQueues(topic string, subscription adapters.Subscription) ([]string, error) {
	count := b.partitions(subscription)
	if count == 0 {
		queue, err := queueName(topic, subscription.Group)
		return []string{queue}, err
	}
	queues := make([]string, count)
	for number := range queues {
		var err error
		if queues[number], err = partitionName(topic, subscription.Group, number); err != nil {
			return nil, err
		}
	}
	return queues, nil
}

// declarePartitions declares what a partitioned group needs, the binding that lets
// messages in last, so that none finds its partition missing:
//
//	exchange "orders" ─► exchange "orders%partitions_group" ─slots 0, 4, 8…─► queue "orders%partition-0_group"
//	    (fanout)             (direct, or by consistent hash)  ─slots 1, 5, 9…─► queue "orders%partition-1_group" …
//	                              └ any other routing key ─► exchange "orders%others_group" ─► partition 0
//
// and queues that nobody writes to: members consume "orders%members_group" to be
// counted, "orders%wanting_group" while they have too few partitions, and
// "orders%holders-0_group" while they have that one. The length limit of the first two is
// the number of partitions, so that a member which counts otherwise is found out by the
// server.
func (b *Broker) declarePartitions(ctx context.Context, topic string, subscription adapters.Subscription) (members string, err error) {
	exchange, err := exchangeName(topic)
	if err != nil {
		return "", err
	}
	names := map[string]string{}
	for _, variant := range []string{"partitions", "others", "members", "wanting"} {
		if names[variant], err = queueVariant(topic, "%"+variant, subscription.Group); err != nil {
			return "", err
		}
	}
	conn, err := b.consuming.get(ctx)
	if err != nil {
		return "", err
	}
	for _, name := range []string{names["members"], names["wanting"]} {
		if err := b.declareMembers(conn, name); err != nil {
			return "", err
		}
	}
	if err := b.declareHolders(conn, topic, subscription.Group); err != nil {
		return "", err
	}
	arguments := b.queueArguments(conn, topic, subscription)
	if letters, dead := arguments["x-dead-letter-exchange"].(string); dead {
		if err := b.keepLetters(conn, letters, false); err != nil {
			return "", err
		}
	}
	queues, err := b.groupQueues(topic, subscription)
	if err != nil {
		return "", err
	}
	for _, queue := range queues {
		if err := b.declareQueue(conn, queue, arguments); err != nil {
			return "", err
		}
	}
	if other, err := queueName(topic, subscription.Group); err == nil {
		b.noteLeftover(conn, other)
	}
	return names["members"], onChannel(conn, func(channel *amqp.Channel) error {
		if err := declareExchange(channel, exchange); err != nil {
			return err
		}
		return b.bindPartitions(channel, exchange, names["partitions"], names["others"], queues)
	})
}

func (b *Broker) bindPartitions(channel *amqp.Channel, exchange, partitions, others string, queues []string) error {
	kind, arguments := amqp.ExchangeDirect, amqp.Table{"alternate-exchange": others}
	if b.config.PartitionBy == ByConsistentHash {
		kind, arguments = "x-consistent-hash", nil
	}
	if err := channel.ExchangeDeclare(partitions, kind, true, false, false, false, arguments); err != nil {
		return fmt.Errorf("declare %s exchange %q (is rabbitmq.partition_by what it was, and for consistent-hash the plugin rabbitmq_consistent_hash_exchange enabled?): %w", kind, partitions, err)
	}
	if b.config.PartitionBy == ByConsistentHash {
		for _, queue := range queues {
			if err := channel.QueueBind(queue, "1", partitions, false, nil); err != nil { // its weight
				return fmt.Errorf("bind queue %q to exchange %q: %w", queue, partitions, err)
			}
		}
		return channel.ExchangeBind(partitions, "", exchange, false, nil)
	}
	if err := declareExchange(channel, others); err != nil {
		return err
	}
	if err := channel.QueueBind(queues[0], "", others, false, nil); err != nil {
		return fmt.Errorf("bind queue %q to exchange %q: %w", queues[0], others, err)
	}
	for slot := range slots {
		queue := queues[slot%len(queues)]
		// Only the last answer is waited for.
		if err := channel.QueueBind(queue, strconv.Itoa(slot), partitions, slot < slots-1, nil); err != nil {
			return fmt.Errorf("bind queue %q to exchange %q: %w", queue, partitions, err)
		}
	}
	if err := channel.ExchangeBind(partitions, "", exchange, false, nil); err != nil {
		return fmt.Errorf("bind exchange %q to exchange %q: %w", partitions, exchange, err)
	}
	return nil
}

func (b *Broker) declareMembers(conn *amqp.Connection, name string) error {
	err := onChannel(conn, func(channel *amqp.Channel) error {
		_, err := channel.QueueDeclare(name, true, false, false, false, amqp.Table{"x-max-length": b.config.Partitions})
		return err
	})
	var refused *amqp.Error
	if errors.As(err, &refused) && refused.Code == amqp.PreconditionFailed {
		return fmt.Errorf("the group has another number of partitions than rabbitmq.partitions, which is %d: %w; to change it, stop all members of the group once its queues are empty, delete its queues and the exchanges between them, which have the group's name, and start again",
			b.config.Partitions, err)
	}
	return wrap(err, "declare queue %q", name)
}

func (b *Broker) declareHolders(conn *amqp.Connection, topic, group string) error {
	return onChannel(conn, func(channel *amqp.Channel) error {
		for number := range b.config.Partitions {
			name, err := holdersName(topic, group, number)
			if err != nil {
				return err
			}
			// Only the last answer is waited for.
			if _, err := channel.QueueDeclare(name, true, false, false, number < b.config.Partitions-1, nil); err != nil {
				return fmt.Errorf("declare queue %q: %w", name, err)
			}
		}
		return nil
	})
}
