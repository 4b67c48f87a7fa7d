package dedup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/internal/failpoint"
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
	handle = recovering(handle)
	single := m.Wrap(func(msg *message.Message) ([]*message.Message, error) {
		outputs, err := handle([]*message.Message{msg})
		return outputs, errors.Join(err, explicit(outputs))
	})
	gather := &gatherer{batching: batching, run: func(msgs []*message.Message) []error {
		errs := make([]error, len(msgs))
		var all sync.WaitGroup
		for _, i := range m.together(msgs, handle) {
			all.Go(func() { _, errs[i] = single(msgs[i]) })
		}
		all.Wait()
		return errs
	}}
	return func(msg *message.Message) ([]*message.Message, error) {
		return nil, gather.add(msg)
	}
}

// together processes a batch as one and returns the indexes of the messages that
// must be handled singly: all of them when nothing was committed, else those in
// flight elsewhere or in conflict, which the single path waits for or quarantines.
func (m *Middleware) together(msgs []*message.Message, handle BatchFunc) (rest []int) {
	every := make([]int, len(msgs))
	for i := range every {
		every[i] = i
	}
	if len(msgs) == 1 {
		return every
	}
	// 1. Identify.
	events := make([]*Event, len(msgs))
	for i, msg := range msgs {
		d, err := m.identify(msg)
		if err != nil {
			return every // the single path reports it
		}
		events[i] = &d.event
	}
	// 2. Claim. The first message's context stands for all: they share a
	// subscription, and each is cancelled only when that ends.
	delivered := msgs[0].Context()
	claim, err := m.config.Strategy.Claim(delivered, events)
	if err != nil {
		return every
	}
	if claim != nil {
		defer restore(msgs)()
		if err := m.handleBatch(delivered, claim, events, handle); err != nil {
			_ = m.observe(events[0], Failed, fmt.Errorf("batch of %d: %w", len(msgs), err))
			return every
		}
	}
	for i, event := range events {
		switch event.Verdict {
		case Fresh:
			_ = m.observe(event, Processed, nil)
		case Duplicate:
			_ = m.observe(event, AlreadyProcessed, nil)
		default:
			rest = append(rest, i)
		}
	}
	return rest
}

// errExited: the handler called runtime.Goexit, as FailNow of package testing does.
var errExited = errors.New("batch handler ended its goroutine (runtime.Goexit) and did not return: return an error instead")

// recovering turns a panic into an error: a batch may run on a timer's goroutine,
// where nobody above would catch it. It gives the handler a goroutine of its own, for
// one that ends that: nobody who waits for the batch would hear of it.
func recovering(handle BatchFunc) BatchFunc {
	return func(msgs []*message.Message) (outputs []*message.Message, err error) {
		err = errExited
		var running sync.WaitGroup
		running.Go(func() {
			defer func() {
				if recovered := recover(); recovered != nil {
					err = fmt.Errorf("panic in batch handler: %v\n%s", recovered, debug.Stack())
				}
			}()
			outputs, err = handle(msgs)
		})
		running.Wait()
		return outputs, err
	}
}

// handleBatch takes steps 3 and 4 for the fresh events of a claim, and releases
// it unless it commits.
func (m *Middleware) handleBatch(delivered context.Context, claim Claim, events []*Event, handle BatchFunc) error {
	committed := false
	defer func() {
		if !committed {
			m.release(delivered, claim)
		}
	}()
	if err := failpoint.Hit(failpoint.AfterClaim); err != nil {
		return err
	}
	var fresh []*message.Message
	var first *Event
	ctx := claim.Context(delivered)
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
	if err := failpoint.Hit(failpoint.AfterHandle); err != nil {
		return err
	}
	if err := claim.Commit(ctx, m.stamp(nil, first, common(fresh), outputs)); err != nil {
		return err
	}
	committed = true
	return nil
}

func explicit(outputs []*message.Message) error {
	if err := noneMissing(outputs); err != nil {
		return err
	}
	for _, output := range outputs {
		if output.Metadata.Get(MetaOutputID) == "" {
			return ErrBatchOutput
		}
	}
	return nil
}

// restore returns a function that makes the messages what they are now: a handler may
// have written into them, and each may be handled once more. Bytes of a payload that were
// changed in place are not restored.
func restore(msgs []*message.Message) func() {
	type snapshot struct {
		ctx      context.Context
		metadata message.Metadata
		payload  message.Payload
	}
	before := make([]snapshot, len(msgs))
	for i, msg := range msgs {
		before[i] = snapshot{msg.Context(), maps.Clone(msg.Metadata), msg.Payload}
	}
	return func() {
		for i, msg := range msgs {
			msg.SetContext(before[i].ctx)
			msg.Metadata, msg.Payload = before[i].metadata, before[i].payload
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
	stay  func() bool // the end of the first delivery is waited for no more
	done  chan struct{}
	errs  []error
}

// add returns the message's own outcome once its batch is through.
func (g *gatherer) add(msg *message.Message) error {
	g.mu.Lock()
	if g.next == nil {
		batch := &gathering{done: make(chan struct{})}
		batch.timer = time.AfterFunc(g.batching.Wait, func() { g.flush(batch) })
		// A stop that has waited long enough ends the deliveries: nobody else comes.
		batch.stay = context.AfterFunc(msg.Context(), func() { g.flush(batch) })
		g.next = batch
	}
	batch, place := g.next, len(g.next.msgs)
	batch.msgs = append(batch.msgs, msg)
	full := len(batch.msgs) == g.batching.Size
	if full {
		g.next = nil // here: any number may come before a flush gets the lock
	}
	g.mu.Unlock()
	if full {
		g.start(batch)
	}
	<-batch.done
	return batch.errs[place]
}

// flush starts a batch that is not full, unless that has happened.
func (g *gatherer) flush(batch *gathering) {
	g.mu.Lock()
	gathering := g.next == batch
	if gathering {
		g.next = nil
	}
	g.mu.Unlock()
	if gathering {
		g.start(batch)
	}
}

// start runs a batch that nobody can add to any more, and is called once for each.
func (g *gatherer) start(batch *gathering) {
	batch.timer.Stop()
	batch.stay()
	batch.errs = g.run(batch.msgs)
	close(batch.done)
}
