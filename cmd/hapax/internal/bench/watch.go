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
	// finish, unless nil, is closed when all of the load has returned.
	finish chan struct{}
	pace   atomic.Pointer[pace]

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
		if w.returned.Add(1) == w.expected && w.finish != nil {
			close(w.finish)
		}
		return outputs, nil
	}
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
