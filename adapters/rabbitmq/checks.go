package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"slices"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// Checks implements adapters.Checker: it compares the queues that exist with those
// that it would declare, and windows with how late a message may come again. Limits that a policy of the server sets are not among a
// queue's arguments, and AMQP does not tell them; nor does it tell the server's time.
func (b *Broker) Checks(ctx context.Context, uses []adapters.Use) (findings []adapters.Finding) {
	conn, err := b.consuming.get(ctx)
	if err != nil {
		return nil // Check says so
	}
	for _, use := range uses {
		queue, err := queueName(use.Topic, use.Group)
		if err != nil {
			findings = append(findings, adapters.Finding{Name: "rabbitmq-queue", About: use.Topic, Fatal: true, Problem: err.Error(), Fix: "choose another name"})
			continue
		}
		if use.Strategy != dedup.StrategyNone {
			window := b.checkWindow(use.Window, use.MaxDeliveries)
			window.About, window.Fatal = queue, !window.OK()
			findings = append(findings, window)
		}
		missing, err := queueMissing(conn, queue)
		switch {
		case err != nil:
			findings = append(findings, adapters.Finding{
				Name: "rabbitmq-queue", About: queue, Fatal: true, Problem: fmt.Sprintf("the queue cannot be looked at: %v", err),
				Fix: "permit this user to configure and read it",
			})
		case missing:
			findings = append(findings, adapters.Finding{Name: "rabbitmq-queue", About: queue, Found: fmt.Sprintf("missing; made at the first start, of type %s", b.config.QueueType)})
		default:
			subscription := adapters.Subscription{Group: use.Group, MaxDeliveries: use.MaxDeliveries, DeadLetter: use.DeadLetter}.WithDefaults()
			findings = append(findings, compareQueue(conn, queue, b.queueArguments(conn, use.Topic, subscription))...)
		}
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

// loses are the arguments that make a queue drop messages nobody has processed.
var loses = []string{"x-max-length", "x-max-length-bytes", "x-message-ttl", "x-expires"}

// compareQueue declares a queue that exists as it should be. The server refuses,
// and names one argument that differs; with that one taken over it names the next.
func compareQueue(conn *amqp.Connection, queue string, arguments amqp.Table) (findings []adapters.Finding) {
	for range len(arguments) + len(loses) + 4 {
		err := onChannel(conn, func(channel *amqp.Channel) error {
			_, err := channel.QueueDeclare(queue, true, false, false, false, arguments)
			return err
		})
		if err == nil {
			break
		}
		var reason *amqp.Error
		difference := []string(nil)
		if errors.As(err, &reason) && reason.Code == amqp.PreconditionFailed {
			difference = inequivalent.FindStringSubmatch(reason.Reason)
		}
		if difference == nil {
			return append(findings, adapters.Finding{Name: "rabbitmq-queue", About: queue, Fatal: true, Problem: err.Error(), Fix: "look at the queue's arguments and permissions"})
		}
		name, value := difference[1], difference[2]
		finding := adapters.Finding{
			Name: "rabbitmq-queue-differs", About: queue, Problem: fmt.Sprintf("%s differs: %s", name, reason.Reason),
			Fix: "let the consumers empty the queue, delete it, and start the service again; or set the argument by a policy",
		}
		switch {
		case name == amqp.QueueTypeArg || name == "durable":
			finding.Name, finding.Fatal = "rabbitmq-queue-type", true
			finding.Fix = "set rabbitmq.queue_type to what it is, or delete the queue once it is empty"
			return append(findings, finding) // other arguments are of another type's
		case slices.Contains(loses, name):
			finding.Name, finding.Fatal = "rabbitmq-queue-limits", true
			finding.Problem = fmt.Sprintf("the queue has %s=%s: it drops messages that nobody has processed", name, value)
		}
		findings = append(findings, finding)
		if value == "" {
			delete(arguments, name)
		} else {
			arguments[name] = argument(value, difference[3], arguments[name])
		}
	}
	if len(findings) == 0 {
		findings = append(findings, adapters.Finding{Name: "rabbitmq-queue", About: queue, Found: fmt.Sprintf("%v, no limits that lose messages", arguments[amqp.QueueTypeArg])})
	}
	return findings
}
