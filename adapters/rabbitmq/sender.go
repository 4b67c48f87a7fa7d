package rabbitmq

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// sender is a channel in confirm mode that many calls of Publish share. One goroutine
// sends what they have queued, without waiting for confirms, and one hands out what
// the server answers:
//
//	Publish ──► queue ──write──► server ──listen──► Publish returns
//
// An unroutable message is returned, and then confirmed as if all were well. A
// return does not say which confirm it belongs to. So every publishing carries
// its number on the channel as its correlation-id; and returns go through an
// unbuffered channel: the library has handed a return to listen before it reads the
// confirm that follows. Through a buffer, or in two goroutines, the confirm could
// overtake its return, and a message that nobody stored would count as sent.
type sender struct {
	channel *amqp.Channel

	mu     sync.Mutex
	queued sync.Cond // queue, dead
	queue  []*call   // not sent yet, the longest-waiting first
	first  uint64    // number of sent[0]
	sent   []*call   // by number; nil: answered
	dead   error     // why the channel is of no use any more
}

// confirmBuffer is how many confirms may wait for listen, which looks at all of them
// at once.
const confirmBuffer = 256

func newSender(conn *amqp.Connection, timeout time.Duration) (*sender, error) {
	channel, err := conn.Channel()
	if err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	s := &sender{channel: channel, first: 1}
	s.queued.L = &s.mu
	returns := channel.NotifyReturn(make(chan amqp.Return))
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, confirmBuffer))
	closed := channel.NotifyClose(make(chan *amqp.Error, 1))
	go s.listen(returns, confirms, closed, max(timeout/8, time.Millisecond))
	go s.write()
	if err := channel.Confirm(false); err != nil {
		_ = channel.Close()
		return nil, fmt.Errorf("select confirms: %w", err)
	}
	return s, nil
}

// send publishes to an exchange and waits for all confirms, up to the deadline.
func (s *sender) send(exchange string, postings []posting, deadline time.Time) *call {
	c := &call{exchange: exchange, postings: postings, deadline: deadline, open: len(postings), done: make(chan struct{})}
	s.mu.Lock()
	if s.dead != nil {
		c.end(s.dead)
	} else if s.queue = append(s.queue, c); len(s.queue) == 1 {
		s.queued.Signal()
	}
	s.mu.Unlock()
	<-c.done
	return c
}

// write sends what is queued until the sender is dead, and then closes the channel. Here
// and nowhere else: frames of a publish behind the one that closes would be an error that
// ends the whole connection. A failure ends the channel: nobody knows how much of the
// frames has reached the server.
func (s *sender) write() {
	defer func() { _ = s.channel.Close() }() // it may have to wait for the connection's end
	for number := uint64(1); ; {
		c := s.next()
		if c == nil {
			return
		}
		for i := range c.postings {
			c.postings[i].CorrelationId = strconv.FormatUint(number, 36)
			number++
			if err := s.channel.Publish(c.exchange, c.postings[i].key, true, false, c.postings[i].Publishing); err != nil {
				s.fail(fmt.Errorf("%w (%w)", errUnknown, err))
				return
			}
		}
	}
}

// next takes a call from the queue, and notes it as sent before it is: the answer may
// be quick.
func (s *sender) next() *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) == 0 && s.dead == nil {
		s.queued.Wait()
	}
	if s.dead != nil {
		return nil
	}
	c := s.queue[0]
	s.queue[0] = nil
	s.queue = s.queue[1:] // append moves what is left when the room is used up
	for range c.postings {
		s.sent = append(s.sent, c)
	}
	return c
}

// listen ends when the channel is closed. Now and then it looks for calls that have
// waited too long.
func (s *sender) listen(returns <-chan amqp.Return, confirms <-chan amqp.Confirmation, closed <-chan *amqp.Error, every time.Duration) {
	look := time.NewTicker(every)
	defer look.Stop()
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
			s.confirmed(c, confirms)
		case now := <-look.C:
			s.expire(now)
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
	if c := s.waiting(number); c != nil {
		c.unrouted++
		if c.err == nil {
			c.err = ErrUnroutable
		}
	}
}

// waiting is the call of a publishing that has no answer yet. mu is held.
func (s *sender) waiting(number uint64) *call {
	if number < s.first || number-s.first >= uint64(len(s.sent)) {
		return nil
	}
	return s.sent[number-s.first]
}

// confirmed takes a confirm, and those behind it that have come already.
func (s *sender) confirmed(confirmation amqp.Confirmation, more <-chan amqp.Confirmation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if c := s.waiting(confirmation.DeliveryTag); c != nil {
			s.sent[confirmation.DeliveryTag-s.first] = nil
			if !confirmation.Ack && c.err == nil {
				c.err = errors.New("rabbitmq refused to store it (basic.nack): is the queue full, or its leader lost?")
			}
			if c.open--; c.open == 0 {
				c.end(nil)
			}
		}
		for len(s.sent) > 0 && s.sent[0] == nil {
			s.first++
			s.sent = s.sent[1:]
		}
		select {
		case next, open := <-more:
			if !open {
				return // listen finds out for itself
			}
			confirmation = next
		default:
			return
		}
	}
}

// expire ends the calls whose time is up. Those that are queued are not sent. If one was,
// the sender is of no use any more: the library hands confirms out in the order of their
// publishings, so one that never comes withholds all those behind it. The next publish
// opens another channel.
func (s *sender) expire(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = slices.DeleteFunc(s.queue, func(c *call) bool {
		late := now.After(c.deadline)
		if late {
			c.end(errLate)
		}
		return late
	})
	withheld := false
	for _, c := range s.sent {
		if c != nil && now.After(c.deadline) {
			c.end(errLate)
			withheld = true
		}
	}
	if withheld {
		s.retire(errWithheld)
	}
}

// fail ends the sender, and every call that waits.
func (s *sender) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retire(err)
}

// retire is fail; mu is held.
func (s *sender) retire(err error) {
	if s.dead != nil {
		return
	}
	s.dead = err
	for _, c := range s.queue {
		c.end(err)
	}
	for _, c := range s.sent {
		if c != nil {
			c.end(err)
		}
	}
	s.queue, s.sent = nil, nil
	s.queued.Broadcast()
}

func (s *sender) usable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead == nil
}
