package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
)

// publisher implements message.Publisher.
type publisher struct {
	broker *Broker
	closed atomic.Bool
}

// Publish returns when every queue bound to the topic's exchange has stored the
// messages. After an error some may be stored. A topic without any queue is
// ErrUnroutable: RabbitMQ has no topic that keeps messages for later readers.
func (p *publisher) Publish(topic string, messages ...*message.Message) error {
	if p.closed.Load() || p.broker.isClosed() {
		return fmt.Errorf("publish to %q: %w", topic, ErrClosed)
	}
	if len(messages) == 0 {
		return nil
	}
	exchange, err := exchangeName(topic)
	if err != nil {
		return fmt.Errorf("publish: %w: %w", dedup.ErrBadOutput, err)
	}
	postings := make([]posting, len(messages))
	now := time.Now()
	for i, msg := range messages {
		if err = p.broker.encode(&postings[i], topic, msg, now); err != nil {
			return err
		}
	}
	if err := failpoint.Hit(failpoint.BeforePublish); err != nil {
		return err
	}
	if err := p.broker.publish(exchange, postings); err != nil {
		return fmt.Errorf("publish %d messages to %q: %w", len(messages), topic, err)
	}
	return failpoint.Hit(failpoint.AfterPublish)
}

// Close makes later calls of Publish fail. The broker stays open.
func (p *publisher) Close() error {
	p.closed.Store(true)
	return nil
}

// slot holds one of the channels that publishes share.
type slot struct {
	turn chan struct{} // taken by what asks the server

	mu     sync.Mutex
	sender *sender
}

func newSlots(count int) []slot {
	slots := make([]slot, count)
	for i := range slots {
		slots[i].turn = make(chan struct{}, 1)
	}
	return slots
}

func (b *Broker) nextSlot() *slot { return &b.slots[b.next.Add(1)%uint64(len(b.slots))] }

// ask does work that waits for answers over the publishing connection, and gives up on it
// when ctx ends. A server that reads nothing does not answer until it reads on or the
// connection ends, and the library has no way to give up meanwhile. So a slot asks for one
// at a time: else each that gave up would leave a goroutine and a channel behind.
func (b *Broker) ask(ctx context.Context, slot *slot, work func(*amqp.Connection) error) error {
	select {
	case slot.turn <- struct{}{}:
	case <-ctx.Done():
		return b.noAnswer(ctx)
	}
	conn, err := b.publishing.get(ctx)
	if err != nil {
		<-slot.turn
		return err
	}
	done := make(chan error, 1)
	go func() {
		err := work(conn)
		<-slot.turn
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return b.noAnswer(ctx)
	}
}

func (b *Broker) noAnswer(ctx context.Context) error {
	err := fmt.Errorf("%s has not answered: %w", b.publishing.address(), context.Cause(ctx))
	if b.publishing.blockedBecause() != "" {
		return fmt.Errorf("%w: %w", err, b.blockedError())
	}
	return err
}

// publish sends postings over one channel, in order. The messages' contexts do not
// count: a publish that was withdrawn half way would have to be explained.
func (b *Broker) publish(exchange string, postings []posting) error {
	deadline := time.Now().Add(b.config.PublishTimeout)
	for {
		slot := b.nextSlot()
		s := b.prepared(slot, exchange)
		if s == nil {
			var err error
			if s, err = b.prepare(slot, exchange, deadline); err != nil {
				return err
			}
		}
		c := s.send(exchange, postings, deadline)
		switch {
		case errors.Is(c.err, ErrUnroutable) && c.unrouted == len(postings) && isLetter(&postings[0]):
			if err := b.keep(slot, exchange, deadline); err != nil {
				return err
			}
			continue
		case errors.Is(c.err, ErrUnroutable) && len(b.config.Readers[exchange]) > 0:
			b.exchanges.Delete(exchange) // somebody has deleted the readers' queues: the next publish makes them again
		case c.err != nil && b.publishing.blockedBecause() != "":
			return fmt.Errorf("%w: %w", c.err, b.blockedError())
		}
		return c.err
	}
}

// prepared is the sender of a slot if it can be used at once; else nil.
func (b *Broker) prepared(slot *slot, exchange string) *sender {
	if b.publishing.blockedBecause() != "" {
		return nil
	}
	if _, declared := b.exchanges.Load(exchange); !declared && exchange != "" {
		return nil
	}
	slot.mu.Lock()
	defer slot.mu.Unlock()
	if slot.sender == nil || !slot.sender.usable() {
		return nil
	}
	return slot.sender
}

// prepare waits until a slot can be used.
func (b *Broker) prepare(slot *slot, exchange string, deadline time.Time) (*sender, error) {
	ctx, cancel := b.until(deadline)
	defer cancel()
	if err := b.awaitUnblocked(ctx); err != nil {
		return nil, err
	}
	return b.sender(ctx, slot, exchange)
}

func (b *Broker) until(deadline time.Time) (context.Context, context.CancelFunc) {
	return context.WithDeadlineCause(b.ctx, deadline, fmt.Errorf("no answer within %s", b.config.PublishTimeout))
}

// isLetter: a dead letter always finds a queue, whatever its topic is called. An
// event that cannot be processed must not be stuck because nobody reads letters.
func isLetter(p *posting) bool {
	reason, _ := p.Headers[dedup.MetaDeadReason].(string)
	return reason != ""
}

func (b *Broker) keep(slot *slot, exchange string, deadline time.Time) error {
	ctx, cancel := b.until(deadline)
	defer cancel()
	return b.ask(ctx, slot, func(conn *amqp.Connection) error { return b.keepLetters(conn, exchange, true) })
}

// sender returns a channel to publish on, opening it if need be, when the
// exchange is declared.
func (b *Broker) sender(ctx context.Context, slot *slot, exchange string) (*sender, error) {
	for {
		s, err := b.fill(ctx, slot, exchange)
		if err == nil || ctx.Err() != nil || errors.Is(err, ErrClosed) || isRefusal(err) {
			return s, err
		}
		b.config.Logger.Warn("prepare to publish: trying again", "exchange", exchange, "error", err)
		select {
		case <-time.After(20 * time.Millisecond): // the link paces its own attempts
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
	}
}

// isRefusal: the server has answered, and would not answer otherwise next time.
func isRefusal(err error) bool {
	var reason *amqp.Error
	if !errors.As(err, &reason) {
		return false
	}
	switch reason.Code {
	case amqp.AccessRefused, amqp.PreconditionFailed, amqp.NotAllowed, amqp.CommandInvalid:
		return true
	}
	return false
}

func (b *Broker) fill(ctx context.Context, slot *slot, exchange string) (*sender, error) {
	var filled *sender
	err := b.ask(ctx, slot, func(conn *amqp.Connection) (err error) {
		if filled, err = b.open(conn, slot); err != nil || exchange == "" { // the default one leads to any queue by its name
			return err
		}
		return b.declareOutput(ctx, conn, exchange)
	})
	if err != nil {
		return nil, err
	}
	return filled, nil
}

// open returns the slot's sender, a new one if need be. The slot's turn is taken.
func (b *Broker) open(conn *amqp.Connection, slot *slot) (*sender, error) {
	slot.mu.Lock()
	s := slot.sender
	slot.mu.Unlock()
	if s != nil && s.usable() {
		return s, nil
	}
	// What was declared may be gone: that can be why the channel was closed.
	b.exchanges.Clear()
	s, err := newSender(conn, b.config.PublishTimeout)
	if err != nil {
		return nil, err
	}
	slot.mu.Lock()
	defer slot.mu.Unlock()
	slot.sender = s
	return s, nil
}

// declareOutput declares a topic's exchange and the queues of its readers, unless that
// was done before.
func (b *Broker) declareOutput(ctx context.Context, conn *amqp.Connection, exchange string) error {
	if _, declared := b.exchanges.Load(exchange); declared {
		return nil
	}
	if err := onChannel(conn, func(channel *amqp.Channel) error { return declareExchange(channel, exchange) }); err != nil {
		return err
	}
	if err := b.declareReaders(ctx, exchange); err != nil {
		return err
	}
	b.exchanges.Store(exchange, struct{}{})
	return nil
}

// declareReaders makes the queues of the readers that were told of beforehand, as they
// would make them themselves. Those that exist are their reader's, whose config may be
// another.
func (b *Broker) declareReaders(ctx context.Context, topic string) error {
	for _, group := range b.config.Readers[topic] {
		subscription := adapters.Subscription{Group: group, MaxDeliveries: b.config.MaxDeliveries}.WithDefaults()
		other, err := b.queueOfOtherKind(ctx, topic, subscription)
		if err != nil {
			return fmt.Errorf("look for the queue of reader %q: %w", group, err)
		}
		if other != "" {
			b.config.Logger.Warn("a reader has not the queues that it would have by this config, with rabbitmq.partitions or without: making no others, which nobody would read", "topic", topic, "group", group, "queue", other)
			continue
		}
		_, err = b.declare(ctx, topic, subscription)
		var refused *amqp.Error
		if errors.As(err, &refused) && refused.Code == amqp.PreconditionFailed {
			b.config.Logger.Warn("the queue of a reader is not what it would be by this config: using it as it is", "topic", topic, "group", group, "reason", refused.Reason)
			err = b.bindReader(ctx, topic, subscription)
		}
		if err != nil {
			return fmt.Errorf("prepare the queue of reader %q: %w", group, err)
		}
	}
	return nil
}

// queueOfOtherKind is a queue by which a reader is seen to have partitions where this config
// gives it none, or the other way round; empty: it has none, or those of this config too.
func (b *Broker) queueOfOtherKind(ctx context.Context, topic string, subscription adapters.Subscription) (string, error) {
	own, err := queueName(topic, subscription.Group)
	if err != nil {
		return "", err
	}
	other, err := partitionName(topic, subscription.Group, 0)
	if err != nil {
		return "", err
	}
	if b.partitions(subscription) > 0 {
		own, other = other, own
	}
	conn, err := b.consuming.get(ctx)
	if err != nil {
		return "", err
	}
	if missing, err := queueMissing(conn, own); err != nil || !missing {
		return "", err
	}
	if missing, err := queueMissing(conn, other); err != nil || missing {
		return "", err
	}
	return other, nil
}

// bindReader binds a reader's queue to the topic, if the reader has not come to that.
// Partitions are its own to bind: only it knows how many there are.
func (b *Broker) bindReader(ctx context.Context, topic string, subscription adapters.Subscription) error {
	if b.partitions(subscription) > 0 {
		return nil
	}
	queue, err := queueName(topic, subscription.Group)
	if err != nil {
		return err
	}
	conn, err := b.consuming.get(ctx)
	if err != nil {
		return err
	}
	return onChannel(conn, func(channel *amqp.Channel) error { return channel.QueueBind(queue, "", topic, false, nil) })
}

// awaitUnblocked waits while the server reads no publishes. Sending now would
// only fill the socket, and then hang in it.
func (b *Broker) awaitUnblocked(ctx context.Context) error {
	for b.publishing.blockedBecause() != "" {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), b.blockedError())
		}
	}
	return nil
}

func (b *Broker) blockedError() error {
	return fmt.Errorf("rabbitmq has blocked publishing connections: %s", b.publishing.blockedBecause())
}
