package rabbitmq

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	amqp "github.com/rabbitmq/amqp091-go"
)

// reader takes the messages of one queue into its consumer's flow. It outlives
// connections: what is bound to one is a session.
type reader struct {
	consumer *consumer
	queue    string
	suffix   string // of the names of its delays' queues
	holders  string // the queue whose consumers hold this one; empty: nobody counts them
	declare  func(context.Context) error

	running sync.WaitGroup
	stop    func()
	closing chan struct{} // closed by stop: receive no more
	session *session      // the last one; read after halt
}

func (c *consumer) newReader(queue, suffix string, declare func(context.Context) error) *reader {
	r := &reader{consumer: c, queue: queue, suffix: suffix, declare: declare, closing: make(chan struct{})}
	r.stop = sync.OnceFunc(func() { close(r.closing) })
	return r
}

// open connects if need be, declares the topology and starts to consume.
func (r *reader) open(ctx context.Context, careful bool) (*session, error) {
	if err := r.declare(ctx); err != nil {
		return nil, err
	}
	broker := r.consumer.broker
	conn, err := broker.consuming.get(ctx)
	if err != nil {
		return nil, err
	}
	channel, err := conn.Channel()
	if err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	s := newSession(r, channel, careful)
	if err := channel.Qos(s.prefetch, 0, false); err != nil {
		_ = channel.Close()
		return nil, fmt.Errorf("set prefetch %d: %w", s.prefetch, err)
	}
	if r.holders != "" { // first: whoever consumes the queue is counted
		if s.holding, err = channel.Consume(r.holders, "", true, false, false, false, nil); err != nil {
			_ = channel.Close()
			return nil, fmt.Errorf("consume queue %q: %w", r.holders, err)
		}
	}
	var arguments amqp.Table
	if broker.config.Priority != 0 {
		arguments = amqp.Table{"x-priority": broker.config.Priority}
	}
	if s.deliveries, err = channel.Consume(r.queue, s.tag, false, false, false, false, arguments); err != nil {
		_ = channel.Close()
		return nil, fmt.Errorf("consume queue %q: %w", r.queue, err)
	}
	s.acking.Go(s.acknowledge)
	return s, nil
}

// start receives over a session, and over those that follow it.
func (r *reader) start(s *session) {
	r.session = s
	r.running.Go(func() { r.run(s) })
}

// halt ends receiving. Messages that were received stay this member's.
func (r *reader) halt() {
	r.stop()
	r.running.Wait()
}

// run receives, over one session after the other, until the reader is stopped.
func (r *reader) run(s *session) {
	c := r.consumer
	ctx, cancel := context.WithCancel(c.broker.ctx)
	defer cancel()
	r.running.Go(func() {
		select {
		case <-c.closing:
		case <-r.closing:
		case <-ctx.Done():
		}
		cancel()
	})
	for {
		r.session = s
		turn := s.receive(ctx)
		if turn {
			s.settle(ctx, settleTimeout)
		}
		if ctx.Err() != nil {
			return
		}
		log := c.broker.config.Logger.With("queue", r.queue)
		careful := s.careful != turn
		if turn {
			log.Info("rabbitmq consumer changes its prefetch, because of messages that came back often", "one_at_a_time", careful)
		} else {
			log.Warn("rabbitmq consumer lost its channel and opens another", "reason", s.reason())
		}
		_ = s.end(errLost)
		if s = r.reopen(ctx, careful); s == nil {
			return
		}
	}
}

// reopen tries until it has a session; nil when ctx has ended.
func (r *reader) reopen(ctx context.Context, careful bool) *session {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = 20*time.Millisecond, 2*time.Second
	for {
		s, err := r.open(ctx, careful)
		if err == nil {
			return s
		}
		if ctx.Err() != nil {
			return nil
		}
		r.consumer.broker.config.Logger.Warn("open rabbitmq consumer: trying again", "queue", r.queue, "error", err)
		select {
		case <-time.After(pauses.NextBackOff()):
		case <-ctx.Done():
			return nil
		}
	}
}
