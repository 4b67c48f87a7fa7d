package rabbitmq

import (
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/hapax-go/hapax/dedup"
)

func isLetters(topic string) bool { return strings.HasSuffix(topic, dedup.DeadLetterTopic("")) }

// keepLetters makes sure that letters find a queue: one named as the exchange. If
// the exchange exists, somebody has seen to that before, or has a group of their
// own there; with force, they have not. So the exchange comes behind its queue: whoever
// is killed between them has not seen to it.
func (b *Broker) keepLetters(conn *amqp.Connection, exchange string, force bool) error {
	err := onChannel(conn, func(channel *amqp.Channel) error {
		return channel.ExchangeDeclarePassive(exchange, amqp.ExchangeFanout, true, false, false, false, nil)
	})
	if err == nil && !force {
		missing, err := queueMissing(conn, exchange)
		if err != nil || missing {
			return wrap(err, "look for queue %q, for dead letters", exchange)
		}
		return bindLetters(conn, exchange) // the one who made it may not have come to that
	}
	arguments := amqp.Table{amqp.QueueTypeArg: string(b.config.QueueType)}
	if b.config.QueueType == Quorum && serverVersion(conn).atLeast(4, 0) {
		arguments["x-delivery-limit"] = -1 // to look at a letter counts as a delivery, and its own default is 20
	}
	if err := b.declareQueue(conn, exchange, arguments); err != nil {
		return err
	}
	if err := onChannel(conn, func(channel *amqp.Channel) error { return declareExchange(channel, exchange) }); err != nil {
		return err
	}
	return bindLetters(conn, exchange)
}

func bindLetters(conn *amqp.Connection, exchange string) error {
	err := onChannel(conn, func(channel *amqp.Channel) error { return channel.QueueBind(exchange, "", exchange, false, nil) })
	return wrap(err, "bind queue %q for dead letters", exchange)
}
