package bench

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"
)

// watch is what all variants of a lane share: the handler, the counts, and the
// measuring of latencies.
type watch struct {
	produce bool
	handled atomic.Int64
	// returned counts deliveries that passed all middlewares without an error.
	returned atomic.Int64
	expected int64
	// finish, unless nil, is closed when all of the load has returned and, where the
	// Router publishes, is published too.
	finish chan struct{}
	// publisher counts what the Router publishes; nil: the strategy publishes.
	publisher *countingPublisher
	pace      atomic.Pointer[pace]

	mu      sync.Mutex
	failure error
}

// begin prepares for a round.
func (w *watch) begin(load Load) {
	w.handled.Store(0)
	w.returned.Store(0)
	w.expected = int64(load.Deliveries())
	w.pace.Store(load.pace)
	load.pace.begin()
}

// handle is the handler under every variant: it does nothing with the message,
// and in the case consume-produce passes its payload on.
func (w *watch) handle(msg *message.Message) ([]*message.Message, error) {
	w.handled.Add(1)
	if !w.produce {
		return nil, nil
	}
	return message.Messages{message.NewMessage(msg.UUID, msg.Payload)}, nil
}

// middleware is the outermost one of every Router.
func (w *watch) middleware(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		outputs, err := next(msg)
		if err != nil {
			w.fail(err)
			return outputs, err
		}
		w.pace.Load().follow(msg)
		if w.returned.Add(1) == w.expected && w.finish != nil && w.publisher == nil {
			close(w.finish)
		}
		return outputs, nil
	}
}

// countingPublisher tells a watch of what the Router has published: it does so after
// all middlewares have returned.
type countingPublisher struct {
	message.Publisher
	watch     *watch
	published atomic.Int64
}

func (p *countingPublisher) Publish(topic string, messages ...*message.Message) error {
	if err := p.Publisher.Publish(topic, messages...); err != nil {
		return err
	}
	if p.published.Add(int64(len(messages))) == p.watch.expected && p.watch.finish != nil {
		close(p.watch.finish)
	}
	return nil
}

func (w *watch) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failure == nil {
		w.failure = err
	}
}

// because adds the first failure of a handler to an error.
func (w *watch) because(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(err, w.failure)
}
