package dedup

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// BatchFunc handles several messages at once. All of them succeed or none.
type BatchFunc func([]*message.Message) ([]*message.Message, error)

// Batching says how many deliveries a batch gathers.
type Batching struct {
	// Size is the most messages of a batch. Default 100.
	Size int
	// Wait is how long the first message of a batch waits for others. Default
	// 20ms.
	Wait time.Duration
}

// ErrBatchOutput: a batch handler made an output without an explicit event ID.
// A batch is composed anew on every redelivery, so no stable ID can be derived.
var ErrBatchOutput = errors.New("output of a batch handler needs an explicit event ID")

// Batch wraps a batch handler: deliveries gather, then take the same four steps
// together, with one claim and one commit over all of them. When the batch
// fails, each message is handled again as a batch of one, so that a poison
// message fails alone.
func (m *Middleware) Batch(handle BatchFunc, batching Batching) message.HandlerFunc {
	if batching.Size <= 0 {
		batching.Size = 100
	}
	if batching.Wait <= 0 {
		batching.Wait = 20 * time.Millisecond
	}
	single := m.Wrap(func(msg *message.Message) ([]*message.Message, error) {
		outputs, err := handle([]*message.Message{msg})
		return outputs, errors.Join(err, explicit(outputs))
	})
	gather := &gatherer{batching: batching, run: func(msgs []*message.Message) []error {
		errs, err := m.together(msgs, handle)
		if err == nil {
			return errs
		}
		// Nothing of the batch was committed.
		var all sync.WaitGroup
		for i, msg := range msgs {
			all.Go(func() { _, errs[i] = single(msg) })
		}
		all.Wait()
		return errs
	}}
	return func(msg *message.Message) ([]*message.Message, error) {
		return nil, gather.add(msg)
	}
}

// together processes a batch as one. An error says that nothing was committed
// for the batch and its messages must be handled one by one; that includes
// events in flight and conflicts, which are rare and waited for there.
func (m *Middleware) together(msgs []*message.Message, handle BatchFunc) ([]error, error) {
	errs := make([]error, len(msgs))
	if len(msgs) == 1 {
		return errs, errors.New("batch of one")
	}
	// 1. Identify.
	events := make([]*Event, len(msgs))
	for i, msg := range msgs {
		events[i] = &Event{}
		if err := m.identify(events[i], msg); err != nil {
			return errs, err
		}
	}
	// 2. Claim. The first message's context stands for all: they share a
	// subscription, and each is cancelled only when that ends.
	delivered := msgs[0].Context()
	claim, err := m.config.Strategy.Claim(delivered, events)
	if err != nil {
		return errs, err
	}
	if claim != nil {
		committed := false
		defer func() {
			if !committed {
				m.release(delivered, claim)
			}
		}()
		defer restore(msgs)()
		err = m.handleBatch(claim, events, handle)
		committed = err == nil
	}
	if err != nil {
		return errs, err
	}
	for i, event := range events {
		switch event.Verdict {
		case Fresh:
			_ = m.observe(event, Processed, nil)
		case Duplicate:
			_ = m.observe(event, AlreadyProcessed, nil)
		default: // the fresh ones are committed: only these come again
			errs[i] = m.observe(event, StillInFlight, fmt.Errorf("event %q is %s: %w", event.EventID, event.Verdict, ErrInFlight))
		}
	}
	return errs, nil
}

// handleBatch takes steps 3 and 4 for the fresh events of a claim.
func (m *Middleware) handleBatch(claim Claim, events []*Event, handle BatchFunc) error {
	var fresh []*message.Message
	var first *Event
	ctx := claim.Context(events[0].Message.Context())
	for _, event := range events {
		if event.Verdict != Fresh {
			continue
		}
		if first == nil {
			first = event
		}
		event.Message.SetContext(withEvent(ctx, event))
		fresh = append(fresh, event.Message)
	}
	outputs, err := handle(fresh)
	if err := errors.Join(err, explicit(outputs)); err != nil {
		return err
	}
	return claim.Commit(ctx, m.stamp(first, outputs))
}

func explicit(outputs []*message.Message) error {
	for _, output := range outputs {
		if output.Metadata.Get(MetaOutputID) == "" {
			return ErrBatchOutput
		}
	}
	return nil
}

// restore returns a function that puts the messages' present contexts back.
func restore(msgs []*message.Message) func() {
	before := make([]context.Context, len(msgs))
	for i, msg := range msgs {
		before[i] = msg.Context()
	}
	return func() {
		for i, msg := range msgs {
			msg.SetContext(before[i])
		}
	}
}

// gatherer collects concurrent calls of add into batches.
type gatherer struct {
	batching Batching
	run      func([]*message.Message) []error

	mu   sync.Mutex
	next *gathering
}

type gathering struct {
	msgs  []*message.Message
	timer *time.Timer
	done  chan struct{}
	errs  []error
}

// add returns the message's own outcome once its batch is through.
func (g *gatherer) add(msg *message.Message) error {
	g.mu.Lock()
	if g.next == nil {
		batch := &gathering{done: make(chan struct{})}
		batch.timer = time.AfterFunc(g.batching.Wait, func() { g.flush(batch) })
		g.next = batch
	}
	batch, place := g.next, len(g.next.msgs)
	batch.msgs = append(batch.msgs, msg)
	full := len(batch.msgs) == g.batching.Size
	g.mu.Unlock()
	if full {
		g.flush(batch)
	}
	<-batch.done
	return batch.errs[place]
}

// flush runs a batch once: the timer and the message that fills it may both call.
func (g *gatherer) flush(batch *gathering) {
	g.mu.Lock()
	if g.next != batch {
		g.mu.Unlock()
		return
	}
	g.next = nil
	g.mu.Unlock()
	batch.timer.Stop()
	batch.errs = g.run(batch.msgs)
	close(batch.done)
}
