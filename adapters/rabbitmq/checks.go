package rabbitmq

import (
	"context"
	"errors"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// Checks implements adapters.Checker: it compares the queues that exist with those
// that it would declare, and windows with how late a message may come again. Limits
// that a policy of the server sets are not among a queue's arguments, and AMQP does not
// tell them; nor does it tell the server's time.
func (b *Broker) Checks(ctx context.Context, uses []adapters.Use) (findings []adapters.Finding) {
	conn, err := b.consuming.get(ctx)
	if err != nil {
		return nil // Check says so
	}
	for _, use := range uses {
		subscription := adapters.Subscription{Group: use.Group, Ordering: use.Ordering, MaxDeliveries: use.MaxDeliveries, DeadLetter: use.DeadLetter}.WithDefaults()
		queues, err := b.groupQueues(use.Topic, subscription)
		if err != nil {
			findings = append(findings, adapters.Finding{Name: "rabbitmq-queue", About: use.Topic, Fatal: true, Problem: err.Error(), Fix: "choose another name"})
			continue
		}
		if use.Strategy != dedup.StrategyNone {
			window := b.checkWindow(use.Window, use.MaxDeliveries)
			window.About, window.Fatal = fmt.Sprintf("%s, group %s", use.Topic, use.Group), !window.OK()
			findings = append(findings, window)
		}
		arguments := b.queueArguments(conn, use.Topic, subscription)
		for _, queue := range queues {
			findings = append(findings, b.checkQueue(conn, queue, arguments)...)
		}
	}
	return findings
}

func (b *Broker) checkQueue(conn *amqp.Connection, queue string, arguments amqp.Table) []adapters.Finding {
	missing, err := queueMissing(conn, queue)
	switch {
	case err != nil:
		return []adapters.Finding{{
			Name: "rabbitmq-queue", About: queue, Fatal: true, Problem: fmt.Sprintf("the queue cannot be looked at: %v", err),
			Fix: "permit this user to configure and read it",
		}}
	case missing:
		return []adapters.Finding{{Name: "rabbitmq-queue", About: queue, Found: fmt.Sprintf("missing; made at the first start, of type %s", b.config.QueueType)}}
	}
	return b.compareQueue(conn, queue, arguments)
}

// CheckOutputs implements adapters.OutputChecker. AMQP tells whether a topic has an
// exchange, and not whether any queue is bound to it: so it sees what cannot work, and
// not all that does not.
func (b *Broker) CheckOutputs(ctx context.Context, topics []string) (findings []adapters.Finding) {
	conn, err := b.consuming.get(ctx)
	if err != nil {
		return nil // Check says so
	}
	for _, topic := range topics {
		finding := adapters.Finding{Name: "rabbitmq-unrouted", About: topic, Found: "its readers are in rabbitmq.readers"}
		if len(b.config.Readers[topic]) == 0 {
			finding.Found = "has an exchange; AMQP does not tell whether a queue is bound to it"
			err := onChannel(conn, func(channel *amqp.Channel) error {
				return channel.ExchangeDeclarePassive(topic, amqp.ExchangeFanout, true, false, false, false, nil)
			})
			if err != nil {
				finding.Found, finding.Problem = "", fmt.Sprintf("nobody reads the topic, as far as can be seen (%v): RabbitMQ keeps messages in the queues of readers only, so the handler's events wait, unprocessed, until there is one", err)
				finding.Fix = "start the reader once, which makes its queue, or name its group in rabbitmq.readers"
			}
		}
		findings = append(findings, finding)
	}
	return findings
}

func queueMissing(conn *amqp.Connection, queue string) (bool, error) {
	err := onChannel(conn, func(channel *amqp.Channel) error {
		_, err := channel.QueueDeclarePassive(queue, true, false, false, false, nil)
		return err
	})
	var reason *amqp.Error
	if errors.As(err, &reason) && reason.Code == amqp.NotFound {
		return true, nil
	}
	return false, err
}

// errOtherType ends a comparison: other arguments are of another type's.
var errOtherType = errors.New("the queue is of another type")

// compareQueue declares a queue that exists, and says what is not as it should be.
func (b *Broker) compareQueue(conn *amqp.Connection, queue string, arguments amqp.Table) (findings []adapters.Finding) {
	is, err := declareAsItIs(conn, queue, arguments, func(d difference) error {
		finding := adapters.Finding{
			Name: "rabbitmq-queue-differs", About: queue, Problem: fmt.Sprintf("%s differs: %s", d.name, d.refusal.Reason),
			Fix: "let the consumers empty the queue, delete it, and start the service again; or set the argument by a policy",
		}
		if name, problem, fix := b.judge(d); name != "" {
			finding.Name, finding.Fatal, finding.Fix = name, true, fix
			finding.Problem = fmt.Sprintf("the queue %s (%s)", problem, d.refusal.Reason)
			if d.name == amqp.QueueTypeArg || d.name == "durable" {
				findings = append(findings, finding)
				return errOtherType
			}
		}
		findings = append(findings, finding)
		return nil
	})
	if problem, fix := judgeReturns(is, serverVersion(conn)); err == nil && problem != "" {
		findings = append(findings, adapters.Finding{Name: FindingLimits, About: queue, Fatal: true, Problem: "the queue " + problem, Fix: fix})
	}
	switch {
	case errors.Is(err, errOtherType):
	case err != nil:
		findings = append(findings, adapters.Finding{Name: "rabbitmq-queue", About: queue, Fatal: true, Problem: err.Error(), Fix: "look at the queue's arguments and permissions"})
	case len(findings) == 0:
		findings = append(findings, adapters.Finding{Name: "rabbitmq-queue", About: queue, Found: fmt.Sprintf("%v, no limits that lose messages", arguments[amqp.QueueTypeArg])})
	}
	return findings
}
