package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/hapax-go/hapax/internal/failpoint"
)

// session is a consumer's channel. Delivery tags mean something on it only: the
// same number on the next channel is another message. So deliveries hold on to
// their session, and once that has ended they acknowledge nothing.
type session struct {
	consumer   *consumer
	queue      string
	tag        string // of the consumer
	channel    *amqp.Channel
	deliveries <-chan amqp.Delivery
	closed     <-chan *amqp.Error
	ctx        context.Context // ends with the session
	cancel     context.CancelCauseFunc

	// careful: one message at a time is asked for; see consumer.suspect.
	careful  bool
	prefetch int

	acks   *acks
	acking sync.WaitGroup
	ending chan struct{}
	ended  func() error
}

const (
	// gather is how long a finished message waits for others, to be acknowledged
	// with them.
	gather = time.Millisecond
	// patience is how long messages wait for a slow one before them, until they
	// are acknowledged without it.
	patience = 50 * time.Millisecond
)

// open connects if need be, declares the topology and starts to consume.
func (c *consumer) open(ctx context.Context, careful bool) (*session, error) {
	queue, err := c.broker.declareGroup(ctx, c.topic, c.subscription)
	if err != nil {
		return nil, err
	}
	conn, err := c.broker.consuming.get(ctx)
	if err != nil {
		return nil, err
	}
	channel, err := conn.Channel()
	if err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	s := &session{consumer: c, queue: queue, channel: channel, careful: careful, acks: newAcks(), ending: make(chan struct{})}
	s.closed = channel.NotifyClose(make(chan *amqp.Error, 1))
	s.prefetch = c.broker.config.prefetch(c.subscription.Window)
	if careful {
		s.prefetch = 1
	}
	if err := channel.Qos(s.prefetch, 0, false); err != nil {
		_ = channel.Close()
		return nil, fmt.Errorf("set prefetch %d: %w", s.prefetch, err)
	}
	var arguments amqp.Table
	if c.broker.config.Priority != 0 {
		arguments = amqp.Table{"x-priority": c.broker.config.Priority}
	}
	s.tag = "hapax"
	if s.deliveries, err = channel.Consume(queue, s.tag, false, false, false, false, arguments); err != nil {
		_ = channel.Close()
		return nil, fmt.Errorf("consume queue %q: %w", queue, err)
	}
	s.ctx, s.cancel = context.WithCancelCause(c.values)
	s.ended = sync.OnceValue(s.finish)
	s.acking.Go(s.acknowledge)
	return s, nil
}

// receive offers deliveries to the flow until ctx ends or the channel does, or
// until the messages ask for more care, or less: then turn is true. What it does
// not offer stays unacknowledged, and goes back when the channel closes.
func (s *session) receive(ctx context.Context) (turn bool) {
	unsuspicious := 0 // in a row
	for {
		select {
		case received, open := <-s.deliveries:
			if !open {
				return false
			}
			s.acks.begin(received.DeliveryTag)
			d := s.deliver(received)
			suspect := s.consumer.suspect(d.attempts - 1)
			switch {
			case s.consumer.exhausted(d.attempts - 1):
				s.consumer.bury(d, d.attempts-1)
				continue
			case suspect && !s.careful:
				return true
			}
			if s.consumer.flow.Offer(ctx, d) != nil {
				return false
			}
			// Among the returned ones are others, and to change over too soon would
			// count one more return for all that is behind.
			if unsuspicious++; suspect {
				unsuspicious = 0
			}
			if s.careful && unsuspicious > s.consumer.broker.config.prefetch(s.consumer.subscription.Window) {
				return true
			}
		case <-ctx.Done():
			return false
		}
	}
}

// lost reports that the session's deliveries belong to others.
func (s *session) lost() bool { return s.ctx.Err() != nil || s.channel.IsClosed() }

// cancelConsume asks the server to send no more.
func (s *session) cancelConsume() {
	if !s.lost() {
		_ = s.channel.Cancel(s.tag, false) // it fails with the channel, and needs none then
	}
}

// acknowledge acknowledges what is finished, until the session ends.
func (s *session) acknowledge() {
	timer := time.NewTimer(gather)
	timer.Stop()
	defer timer.Stop()
	enough := s.prefetch / 4
	var held <-chan time.Time
	for {
		select {
		case <-s.acks.wake:
			if s.acks.ready() < enough {
				timer.Reset(gather)
				select {
				case <-timer.C:
				case <-s.ending:
				}
			}
			if waiting := s.send(false); waiting > 0 && held == nil {
				held = time.After(patience)
			}
		case <-held:
			held = nil
			s.send(true)
		case <-s.ending:
			s.send(true)
			return
		}
	}
}

// send acknowledges. An error means that the channel is closed: the server has
// given the messages to others, and their copies will be duplicates.
func (s *session) send(singly bool) (waiting int) {
	upTo, singles, waiting := s.acks.take(singly)
	if upTo == 0 && len(singles) == 0 {
		return waiting
	}
	if upTo > 0 && s.channel.Ack(upTo, true) != nil {
		return 0
	}
	for _, tag := range singles {
		if s.channel.Ack(tag, false) != nil {
			return 0
		}
	}
	_ = failpoint.Hit(failpoint.AfterAck)
	return waiting
}

// end ends the session, the contexts of its messages with cause; the server gives
// what is not acknowledged to others.
func (s *session) end(cause error) error {
	s.cancel(cause)
	return s.ended()
}

func (s *session) finish() error {
	close(s.ending)
	s.acking.Wait()
	err := s.channel.Close() // behind the last acknowledgement
	if errors.Is(err, amqp.ErrClosed) {
		return nil // it was lost before
	}
	return err
}

// reason is why the channel was closed, if the server said so.
func (s *session) reason() string {
	select {
	case err := <-s.closed:
		if err != nil {
			return err.Error()
		}
	default:
	}
	return "cancelled by the server; was the queue deleted?"
}
