package plain

import (
	"context"
	"errors"
	"fmt"

	wmamqp "github.com/ThreeDotsLabs/watermill-amqp/v2/pkg/amqp"
	amqp "github.com/rabbitmq/amqp091-go"
)

// Loop is what one would write by hand for throughput, without Hapax and without
// deduplication: publishes and confirms overlap, and one frame acknowledges many
// messages, never before their outputs are confirmed.
type Loop struct {
	Server   Server
	In       string // queue
	Out      string // exchange
	Prefetch int
	Batch    int // deliveries acknowledged at once
	Produce  bool
	Total    int // deliveries to handle
	Handle   func(uuid string)
	// Done is told of every delivery when it is settled, in order.
	Done func(uuid string)
}

// Run handles the total, and returns when all of it is acknowledged.
func (l Loop) Run(ctx context.Context) error {
	conn, err := amqp.Dial(l.Server.url())
	if err != nil {
		return fmt.Errorf("connect to rabbitmq: %w", err)
	}
	defer conn.Close()
	in, err := conn.Channel()
	if err != nil {
		return fmt.Errorf("open channel: %w", err)
	}
	out, err := conn.Channel()
	if err == nil {
		err = errors.Join(out.Confirm(false), in.Qos(l.Prefetch, 0, false))
	}
	if err != nil {
		return fmt.Errorf("prepare channels: %w", err)
	}
	confirms := out.NotifyPublish(make(chan amqp.Confirmation, l.Prefetch))
	deliveries, err := in.Consume(l.In, "", false, false, false, false, nil)
	if err != nil {
		return fmt.Errorf("consume queue %s: %w", l.In, err)
	}
	uuids := make(chan string, l.Prefetch+1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1)
	go func() { failed <- l.pump(ctx, deliveries, out, uuids) }()
	// Delivery n makes publishing n, so the numbers of both are the same.
	for n := uint64(1); n <= uint64(l.Total); n++ {
		var uuid string
		select {
		case uuid = <-uuids:
		case err := <-failed:
			return err
		}
		if l.Produce {
			select {
			case confirmed := <-confirms:
				if !confirmed.Ack {
					return errors.New("an output was not confirmed")
				}
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if n%uint64(l.Batch) == 0 || n == uint64(l.Total) || len(uuids) == 0 {
			if err := in.Ack(n, true); err != nil {
				return fmt.Errorf("acknowledge: %w", err)
			}
		}
		l.Done(uuid)
	}
	return in.Close() // behind the last acknowledgement
}

// pump handles deliveries and sends their outputs, without waiting for confirms.
func (l Loop) pump(ctx context.Context, deliveries <-chan amqp.Delivery, out *amqp.Channel, uuids chan<- string) error {
	for range l.Total {
		var delivery amqp.Delivery
		var open bool
		select {
		case delivery, open = <-deliveries:
			if !open {
				return errors.New("the consumer's channel was closed")
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		uuid, _ := delivery.Headers[wmamqp.DefaultMessageUUIDHeaderKey].(string)
		l.Handle(uuid)
		if l.Produce {
			err := out.Publish(l.Out, "", true, false, amqp.Publishing{
				DeliveryMode: amqp.Persistent, Body: delivery.Body, Headers: amqp.Table{wmamqp.DefaultMessageUUIDHeaderKey: uuid},
			})
			if err != nil {
				return fmt.Errorf("publish: %w", err)
			}
		}
		uuids <- uuid
	}
	<-ctx.Done() // the loop's end is that of the acknowledgements
	return context.Cause(ctx)
}
