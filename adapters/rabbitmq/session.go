package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
)

// session is a consumer's channel. Delivery tags mean something on it only: the
// same number on the next channel is another message. So deliveries hold on to
// their session, and once that has ended they acknowledge nothing.
type session struct {
	consumer   *consumer
	reader     *reader
	queue      string
	name       string // of the session, in positions
	tag        string // of the consumer
	channel    *amqp.Channel
	deliveries <-chan amqp.Delivery
	holding    <-chan amqp.Delivery // of the queue that counts holders; nil: nobody counts
	ctx        context.Context      // ends with the session
	cancel     context.CancelCauseFunc

	// careful: one message at a time is asked for; see consumer.suspect.
	careful  bool
	prefetch int

	// open counts the deliveries in the flow, and those that are on their way to another
	// queue.
	open atomic.Int64

	acks   *acks
	acking sync.WaitGroup
	ending chan struct{}
	ended  func() error
}

const (
	// gather is how long a finished message waits for others, to be acknowledged
	// with them.
	gather = 5 * time.Millisecond
	// patience is how long messages wait for a slow one before them, until they
	// are acknowledged without it.
	patience = 50 * time.Millisecond
	// early is by how much a parked message may come before it is due: two
	// machines' clocks differ.
	early = time.Second
)

func newSession(r *reader, channel *amqp.Channel, careful bool) *session {
	c := r.consumer
	s := &session{
		consumer: c, reader: r, queue: r.queue, tag: "hapax", channel: channel, careful: careful,
		// Tags of two channels are the same numbers; positions must not be.
		name: fmt.Sprintf("%s/%x", r.queue, dedup.NextToken()),
		acks: newAcks(), ending: make(chan struct{}),
	}
	s.prefetch = c.broker.config.prefetch(c.subscription.Window)
	if careful {
		s.prefetch = 1
	}
	s.ctx, s.cancel = context.WithCancelCause(c.values)
	s.ended = sync.OnceValue(s.finish)
	go s.watch(channel.NotifyClose(make(chan *amqp.Error, 1)))
	return s
}

// watch ends the session when its channel is closed: its messages are somebody else's
// then, whatever the reader waits for at the time. Of a channel that was closed by end it
// learns too late to change the cause.
func (s *session) watch(closed <-chan *amqp.Error) {
	err := errLost
	if reason := <-closed; reason != nil {
		err = fmt.Errorf("%w (%w)", errLost, reason)
	}
	s.cancel(err)
}

// receive offers deliveries to the flow until ctx ends or the channel does, or
// until the messages ask for more care, or less: then turn is true. What it does
// not offer stays unacknowledged, and goes back when the channel closes.
func (s *session) receive(ctx context.Context) (turn bool) {
	// While the window is full nobody looks at the deliveries, whose end would tell.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	unsuspicious := 0 // in a row
	for {
		select {
		case received, open := <-s.deliveries:
			if !open {
				return false
			}
			s.acks.begin(received.DeliveryTag)
			d := s.deliver(received)
			if time.Until(d.due) > early {
				s.consumer.park(d, d.attempts-1, d.due)
				continue
			}
			suspect := s.consumer.suspect(d.attempts - 1)
			switch {
			case s.consumer.exhausted(d.attempts - 1):
				s.consumer.bury(d, d.attempts-1)
				continue
			case suspect && !s.careful:
				return true
			}
			s.open.Add(1)
			if s.consumer.flow.Offer(ctx, d) != nil {
				s.open.Add(-1)
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
		case <-s.holding:
			// This member is not counted any more. (Or somebody has written to the queue,
			// and taken one of the delivery tags away, which are to have no gaps.)
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// settle waits, for a time, until nothing of the session is in flight, so that the
// channel can be closed and nobody loses their work.
func (s *session) settle(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for s.open.Load() > 0 && !s.lost() {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return
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
	var head uint64 // when held was set
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
				held, head = time.After(patience), s.acks.head()
			}
		case <-held:
			held = nil
			// While the head moves on, nobody is slow: messages are only done in
			// another order than they came, and the next frame takes them along.
			if now := s.acks.head(); now != head && s.acks.ready() > 0 {
				held, head = time.After(patience), now
				continue
			}
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

// reason is why nothing more is received.
func (s *session) reason() string {
	if !s.channel.IsClosed() {
		return "cancelled by the server; was the queue deleted?"
	}
	<-s.ctx.Done() // watch may be on its way
	return context.Cause(s.ctx).Error()
}
