package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/hapax-go/hapax/adapters"
)

// onChannel runs work on a channel of its own: a declaration that the server
// refuses closes the channel, with everything that is in flight on it.
func onChannel(conn *amqp.Connection, work func(*amqp.Channel) error) error {
	channel, err := conn.Channel()
	if err != nil {
		return fmt.Errorf("open channel: %w", err)
	}
	if err := work(channel); err != nil {
		_ = channel.Close()
		return err
	}
	return channel.Close()
}

// declareExchange declares a topic's exchange: a durable fanout of the topic's
// name.
func declareExchange(channel *amqp.Channel, name string) error {
	if err := channel.ExchangeDeclare(name, amqp.ExchangeFanout, true, false, false, false, nil); err != nil {
		return fmt.Errorf("declare fanout exchange %q: %w", name, err)
	}
	return nil
}

// declare declares what a group needs, in one queue or in partitions.
func (b *Broker) declare(ctx context.Context, topic string, subscription adapters.Subscription) (queue string, err error) {
	if b.partitions(subscription) > 0 {
		return b.declarePartitions(ctx, topic, subscription)
	}
	return b.declareGroup(ctx, topic, subscription)
}

// declareGroup declares what a group needs: the topic's exchange, the group's
// queue, their binding, and where the queue's dead letters go.
func (b *Broker) declareGroup(ctx context.Context, topic string, subscription adapters.Subscription) (queue string, err error) {
	exchange, err := exchangeName(topic)
	if err != nil {
		return "", err
	}
	if queue, err = queueName(topic, subscription.Group); err != nil {
		return "", err
	}
	conn, err := b.consuming.get(ctx)
	if err != nil {
		return "", err
	}
	if err := onChannel(conn, func(channel *amqp.Channel) error { return declareExchange(channel, exchange) }); err != nil {
		return "", err
	}
	arguments := b.queueArguments(conn, topic, subscription)
	if letters, dead := arguments["x-dead-letter-exchange"].(string); dead {
		if err := b.keepLetters(conn, letters, false); err != nil {
			return "", err
		}
	}
	if err := b.declareQueue(conn, queue, arguments); err != nil {
		return "", err
	}
	err = onChannel(conn, func(channel *amqp.Channel) error { return channel.QueueBind(queue, "", exchange, false, nil) })
	if err != nil {
		return "", fmt.Errorf("bind queue %q to exchange %q: %w", queue, exchange, err)
	}
	if other, err := partitionName(topic, subscription.Group, 0); err == nil {
		b.noteLeftover(conn, other)
	}
	return queue, nil
}

// noteLeftover looks for a queue of the time when the group had partitions, or had
// none yet. It is still bound, gets a copy of every message, and may hold some that
// nobody has processed: so it is neither deleted nor unbound here.
func (b *Broker) noteLeftover(conn *amqp.Connection, queue string) {
	var found amqp.Queue
	err := onChannel(conn, func(channel *amqp.Channel) (err error) {
		found, err = channel.QueueDeclarePassive(queue, true, false, false, false, nil)
		return err
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		delete(b.leftovers, queue)
		return
	}
	if _, known := b.leftovers[queue]; !known {
		b.config.Logger.Warn("queue from before rabbitmq.partitions was changed gets a copy of every message: let its consumers empty it, then delete it", "queue", queue, "messages", found.Messages, "consumers", found.Consumers)
	}
	b.leftovers[queue] = fmt.Sprintf("%d messages, %d consumers", found.Messages, found.Consumers)
}

// queueArguments are what a new queue is declared with. They cannot be changed
// later; see differs.
func (b *Broker) queueArguments(conn *amqp.Connection, topic string, subscription adapters.Subscription) amqp.Table {
	arguments := amqp.Table{amqp.QueueTypeArg: string(b.config.QueueType)}
	if b.single(subscription) || b.partitions(subscription) > 0 {
		arguments[amqp.SingleActiveConsumerArg] = true
	}
	if b.config.QueueType != Quorum {
		return arguments
	}
	limit := b.config.DeliveryLimit
	if limit <= 0 {
		limit = subscription.MaxDeliveries
	}
	version := serverVersion(conn)
	letters := subscription.LetterTopic(topic)
	if limit <= 0 || len(letters) > maxName || isLetters(topic) {
		// Letters of letters would travel in circles: a topic of letters keeps them. And
		// without a place to go to, a limit would drop what goes beyond it.
		if version.atLeast(4, 0) {
			arguments["x-delivery-limit"] = -1 // its own default is 20
		}
		return arguments
	}
	arguments["x-delivery-limit"] = limit
	arguments["x-dead-letter-exchange"] = letters
	if version.atLeast(3, 10) {
		// RabbitMQ's default forgets a dead letter that finds no queue. At-least-once
		// holds it in its old queue meanwhile; it demands reject-publish.
		arguments["x-dead-letter-strategy"] = "at-least-once"
		arguments["x-overflow"] = "reject-publish"
	}
	return arguments
}

// declareQueue declares a queue, and puts up with one that exists with other
// arguments, a changed limit of deliveries say: to change it somebody has to empty
// and delete it, and no service should stand still for that. But one that promises
// other things is refused; see judge.
func (b *Broker) declareQueue(conn *amqp.Connection, queue string, arguments amqp.Table) error {
	var first *amqp.Error
	is, err := declareAsItIs(conn, queue, arguments, func(d difference) error {
		name, problem, fix := b.judge(d)
		switch {
		case name != "" && !(name == FindingLimits && b.config.AllowLimits):
			return fmt.Errorf("it exists, and %s: %w; %s", problem, d.refusal, fix)
		case first == nil:
			first = d.refusal
		}
		return nil
	})
	if err == nil && first != nil {
		if problem, fix := judgeReturns(is, serverVersion(conn)); problem != "" && !b.config.AllowLimits {
			return fmt.Errorf("declare queue %q: it exists, and %s: %w; %s", queue, problem, first, fix)
		}
		b.noteDifference(queue, first.Reason)
	}
	return wrap(err, "declare queue %q", queue)
}

// difference is an argument of a queue that exists, and is not what was asked for.
type difference struct {
	name    string
	asked   any
	is      string // empty: there is none
	refusal *amqp.Error
}

// declareAsItIs declares a queue with the arguments that it has, if it exists. The
// server refuses others, and names one that differs; with that one taken over it names
// the next. Each is told first, and an error of tell ends it. It returns the arguments that
// the queue has, of those that were asked for or differ.
func declareAsItIs(conn *amqp.Connection, queue string, arguments amqp.Table, tell func(difference) error) (amqp.Table, error) {
	arguments = maps.Clone(arguments) // the caller may want them for another queue
	for range len(arguments) + len(loses) + 4 {
		err := onChannel(conn, func(channel *amqp.Channel) error {
			_, err := channel.QueueDeclare(queue, true, false, false, false, arguments)
			return err
		})
		d := difference{}
		if !errors.As(err, &d.refusal) || d.refusal.Code != amqp.PreconditionFailed {
			return arguments, err
		}
		words := inequivalent.FindStringSubmatch(d.refusal.Reason)
		if words == nil {
			return arguments, err
		}
		d.name, d.asked, d.is = words[1], arguments[words[1]], words[2]
		if err := tell(d); err != nil {
			return arguments, err
		}
		if d.is == "" {
			delete(arguments, d.name)
		} else {
			arguments[d.name] = argument(d.is, words[3], d.asked)
		}
	}
	return arguments, errors.New("it exists with other arguments: delete it once it is empty")
}

// FindingLimits is the name of the finding about a queue that drops messages.
const FindingLimits = "rabbitmq-queue-limits"

// loses are the arguments that make a queue drop messages nobody has processed.
var loses = []string{"x-max-length", "x-max-length-bytes", "x-message-ttl", "x-expires"}

// judge says why a queue cannot be used as it is, and what to do about it, under the
// name of the finding; empty: it can.
func (b *Broker) judge(d difference) (name, problem, fix string) {
	switch {
	case d.name == amqp.QueueTypeArg || d.name == "durable":
		return "rabbitmq-queue-type", fmt.Sprintf("is not of type %s", b.config.QueueType),
			"set rabbitmq.queue_type to what it is, or delete the queue once it is empty"
	case slices.Contains(loses, d.name) && d.asked == nil: // the queue of a delay has what it is asked for
		return FindingLimits, fmt.Sprintf("has %s=%s: it drops messages that nobody has processed", d.name, d.is),
			"let the consumers empty the queue, delete it, and start the service again"
	case d.name == amqp.SingleActiveConsumerArg && d.asked == true:
		return "rabbitmq-queue-order", "has no single active consumer, which order across the group's members needs: equal keys would be worked on at the same time",
			"let the consumers empty the queue, delete it, and start the service again; or, if order within each process is enough, set consumer.ordering: key and rabbitmq.single_active_consumer: false, without rabbitmq.partitions"
	}
	return "", "", ""
}

// judgeReturns says that a queue drops what came back too often, because it has no place to
// move it to, and what to do about it; empty: it does not. From RabbitMQ 4.0 on a quorum
// queue that names no limit has one of 20 (its release notes).
func judgeReturns(is amqp.Table, server version) (problem, fix string) {
	limit, limited := is["x-delivery-limit"]
	_, moves := is["x-dead-letter-exchange"]
	has := fmt.Sprintf("x-delivery-limit=%v", limit)
	if !limited && is[amqp.QueueTypeArg] == string(Quorum) && server.atLeast(4, 0) {
		has, limited = "the server's own delivery limit of 20", true
	}
	if !limited || moves || fmt.Sprint(limit) == "-1" {
		return "", ""
	}
	return fmt.Sprintf("has %s and no x-dead-letter-exchange: it drops messages that come back more often, which nobody has processed", has),
		"let the consumers empty the queue, delete it, and start the service again; or, if a policy gives it a dead-letter exchange or lifts the limit, allow " + FindingLimits
}

// inequivalent reads the server's words about an argument, and what the queue has.
var inequivalent = regexp.MustCompile(`inequivalent arg '([^']+)'.* current is (?:none|(?:the value )?'([^']*)'(?: of type '([^']*)')?)`)

// argument is a value as the server wrote it. When it does not name the type, that
// is the type of what it was sent.
func argument(value, kind string, sent any) any {
	if _, text := sent.(string); !text && kind != "longstr" {
		if number, err := strconv.ParseInt(value, 10, 64); err == nil {
			return number
		}
		if truth, err := strconv.ParseBool(value); err == nil {
			return truth
		}
	}
	return value
}

func (b *Broker) noteDifference(queue, reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.different[queue]; known {
		return
	}
	b.different[queue] = reason
	b.config.Logger.Warn("queue exists with other arguments: using it as it is", "queue", queue, "reason", reason)
}

func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}

// version is a server's.
type version struct{ major, minor int }

func serverVersion(conn *amqp.Connection) (v version) {
	text, _ := conn.Properties["version"].(string)
	_, _ = fmt.Sscanf(text, "%d.%d", &v.major, &v.minor) // zero, so oldest, when it does not say
	return v
}

func (v version) atLeast(major, minor int) bool {
	return v.major > major || v.major == major && v.minor >= minor
}
