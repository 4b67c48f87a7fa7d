package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// sender is a channel in confirm mode that many calls of Publish share. Each
// sends without waiting for the others' confirms; one goroutine hands out what
// the server answers.
//
// An unroutable message is returned, and then confirmed as if all were well. A
// return does not say which confirm it belongs to. So every publishing carries
// its number on the channel as its correlation-id; and returns and confirms go
// through unbuffered channels to one goroutine, which therefore sees them in the
// server's order. With a buffer, or in two goroutines, the confirm could overtake
// its return, and a message that nobody stored would count as sent.
type sender struct {
	channel *amqp.Channel
	// turn is held while sending, so that numbers go out in their order. It is a
	// channel because a Publish that has run out of time gives up the wait.
	turn chan struct{}
	last uint64 // number of the last publishing; guarded by turn

	mu    sync.Mutex
	calls map[uint64]*call // by number; not answered yet
	dead  error            // why the channel is of no use any more
}

// posting is a message on its way to an exchange.
type posting struct {
	key string // for routing
	amqp.Publishing
}

// call is one Publish that waits for its confirms. Guarded by the sender's mu
// until done is closed.
type call struct {
	open     int   // publishings without an answer
	unrouted int   // publishings returned
	err      error // the first failure
	done     chan struct{}
}

// errUnknown: the connection ended between the publish and its confirm.
var errUnknown = errors.New("connection lost before the confirm: the messages may be stored or not; publishing them again under the same event IDs is safe")

func newSender(conn *amqp.Connection) (*sender, error) {
	channel, err := conn.Channel()
	if err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	s := &sender{channel: channel, turn: make(chan struct{}, 1), calls: map[uint64]*call{}}
	returns := channel.NotifyReturn(make(chan amqp.Return))
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation))
	closed := channel.NotifyClose(make(chan *amqp.Error, 1))
	go s.listen(returns, confirms, closed)
	if err := channel.Confirm(false); err != nil {
		_ = channel.Close()
		return nil, fmt.Errorf("select confirms: %w", err)
	}
	return s, nil
}

// listen ends when the channel is closed.
func (s *sender) listen(returns <-chan amqp.Return, confirms <-chan amqp.Confirmation, closed <-chan *amqp.Error) {
	for returns != nil || confirms != nil {
		select {
		case r, open := <-returns:
			if !open {
				returns = nil
				continue
			}
			s.returned(r)
		case c, open := <-confirms:
			if !open {
				confirms = nil
				continue
			}
			s.confirmed(c)
		}
	}
	err := errUnknown
	if reason := <-closed; reason != nil {
		err = fmt.Errorf("%w (%w)", errUnknown, reason)
	}
	s.fail(err)
}

// returned takes note that a publishing found no queue. Its confirm follows.
func (s *sender) returned(r amqp.Return) {
	number, err := strconv.ParseUint(r.CorrelationId, 36, 64)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.calls[number]; c != nil {
		c.unrouted++
		if c.err == nil {
			c.err = ErrUnroutable
		}
	}
}

func (s *sender) confirmed(confirmation amqp.Confirmation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[confirmation.DeliveryTag]
	if c == nil {
		return
	}
	delete(s.calls, confirmation.DeliveryTag)
	if !confirmation.Ack && c.err == nil {
		c.err = errors.New("rabbitmq refused to store it (basic.nack): is the queue full, or its leader lost?")
	}
	if c.open--; c.open == 0 {
		close(c.done)
	}
}

// fail ends the sender, and every call that waits.
func (s *sender) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead != nil {
		return
	}
	s.dead = err
	for _, c := range s.calls {
		if c.open > 0 {
			c.open, c.err = 0, err
			close(c.done)
		}
	}
	clear(s.calls)
}

func (s *sender) usable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead == nil
}

// send publishes to an exchange and waits for all confirms.
func (s *sender) send(ctx context.Context, exchange string, postings []posting) (*call, error) {
	c := &call{open: len(postings), done: make(chan struct{})}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return c, context.Cause(ctx)
	}
	s.write(exchange, postings, c)
	<-s.turn
	select {
	case <-c.done:
		return c, c.err
	case <-ctx.Done():
		return c, context.Cause(ctx) // a confirm that still comes is of no interest
	}
}

// write sends postings; it is the sender's turn. A failure ends the channel:
// nobody knows how much of the frames has reached the server.
func (s *sender) write(exchange string, postings []posting, c *call) {
	s.mu.Lock()
	if s.dead != nil {
		c.open, c.err = 0, s.dead
		close(c.done)
		s.mu.Unlock()
		return
	}
	for i := range postings {
		s.calls[s.last+uint64(i)+1] = c // before it is sent: the answer may be quick
	}
	s.mu.Unlock()
	for i := range postings {
		s.last++
		postings[i].CorrelationId = strconv.FormatUint(s.last, 36)
		if err := s.channel.Publish(exchange, postings[i].key, true, false, postings[i].Publishing); err != nil {
			s.fail(fmt.Errorf("%w (%w)", errUnknown, err))
			go func() { _ = s.channel.Close() }() // it may have to wait for the connection's end
			return
		}
	}
}
