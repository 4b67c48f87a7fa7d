package flow

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// ErrClosed: the flow takes no more deliveries, because Drain was called.
var ErrClosed = errors.New("flow is draining")

// Delivery is one message of the broker on its way through the flow. Its
// methods are called from the flow's goroutines, never two at a time; they must
// not block for long (a delivery that does delays the others), and must not call
// Drain.
type Delivery interface {
	// Message returns the message to hand out, with its context and metadata
	// set and neither acked nor nacked. It is called once for each handing-out,
	// so it returns a new one every time.
	Message() *message.Message

	// Lane names what the delivery is ordered with: deliveries of equal lanes go
	// out one at a time. Empty: ordered with nothing. Called once, by Offer.
	Lane() string

	// Acked ends the delivery: its message was acked. The lane goes on when it
	// has returned.
	Acked()

	// Nacked reports that the message was nacked. With again, the flow asks for
	// a new Message after the delay, and the lane waits meanwhile. Without, the
	// delivery has ended (the adapter gave it back to the broker, or to the
	// dead-letter topic) and the lane goes on; after is ignored.
	Nacked() (after time.Duration, again bool)

	// Abandoned ends the delivery: the flow drained before anybody read the
	// message, or before it was acked or nacked; or it was lost, see Losable. The
	// adapter gives it back to the broker and cancels the message's context. Within a
	// lane, deliveries are abandoned in the order offered.
	Abandoned()
}

// Losable is implemented by deliveries that can become somebody else's while they
// wait for their redelivery. There is nothing to wait for then: they are abandoned,
// and the lane goes on. Lost is called at the beginning of each such wait.
type Losable interface{ Lost() <-chan struct{} }

// Config configures a Flow.
type Config struct {
	// Window bounds the deliveries offered and not ended. Default 1000.
	Window int
	// Buffer is how many messages may be handed out and not read yet. More than
	// the Router needs to stay busy only costs: they grow cold in the cache, and
	// are taken back when the flow drains. Default 64, at most Window.
	Buffer int
	// Freed is told when slots of the window were given back, so that Room has
	// grown. The ending methods of a delivery are called before that. It must not
	// block, nor call the flow. Default: nobody is told.
	Freed func()
}

// Flow hands out deliveries. Make one with New, for one subscription, and end it
// with Drain. All methods are safe for concurrent use.
type Flow struct {
	window int
	freed  func()
	// out is sent to by Offer and by watchers, never by the tracker: whoever
	// reads slowly must not hold up the bookkeeping.
	out chan *message.Message
	// handed carries what Offer handed out to the tracker.
	handed chan handed

	mu       sync.Mutex
	used     int                           // window slots taken
	waiting  int                           // Offer calls waiting for a slot
	lanes    map[string]*handout           // the delivery that each busy lane waits for
	recalled map[*message.Message]struct{} // taken back by Drain before anybody read them
	closing  bool                          // Drain was called
	expired  error                         // why the deadline was closed

	room       chan struct{} // wakes one waiting Offer
	draining   chan struct{} // closed when Drain begins
	deadline   chan struct{} // closed when a Drain's ctx ends
	cut        atomic.Int64  // handed-out deliveries abandoned at the deadline
	goroutines sync.WaitGroup
}

// New starts a flow. It runs a goroutine until Drain.
func New(config Config) *Flow {
	if config.Window <= 0 {
		config.Window = 1000
	}
	if config.Buffer <= 0 {
		config.Buffer = 64
	}
	f := &Flow{
		window:   config.Window,
		freed:    config.Freed,
		out:      make(chan *message.Message, min(config.Buffer, config.Window)),
		handed:   make(chan handed, config.Window),
		lanes:    make(map[string]*handout),
		recalled: make(map[*message.Message]struct{}),
		room:     make(chan struct{}, 1),
		draining: make(chan struct{}),
		deadline: make(chan struct{}),
	}
	f.goroutines.Go(f.track)
	return f
}

// Messages is the channel to return from Subscribe. It is closed when the flow
// has drained.
func (f *Flow) Messages() <-chan *message.Message { return f.out }

// Room is the number of Offer calls that would not wait for the window now.
func (f *Flow) Room() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.window - f.used
}

// Offer gives the flow a delivery: it is handed out at once, or when its lane is
// free. Offer blocks while the window is full, or while nobody reads Messages. An
// error means that the flow did not take the delivery and will call none of its
// ending methods: ErrClosed after Drain was called, or the error of ctx.
//
// The order of a lane is the order of Offer calls; calls from several goroutines
// have none.
func (f *Flow) Offer(ctx context.Context, delivery Delivery) error {
	h := &handout{delivery: delivery, lane: delivery.Lane()}
	h.last = h

	f.mu.Lock()
	if err := f.acquire(ctx); err != nil {
		f.mu.Unlock()
		return err
	}
	if h.lane != "" {
		if running, busy := f.lanes[h.lane]; busy {
			running.queue(h)
			// The tracker may be busy with older messages when running ends.
			// The lane should not wait for that.
			if running.watched() {
				f.goroutines.Go(func() { f.watch(running) })
			}
			f.mu.Unlock()
			return nil
		}
		f.lanes[h.lane] = h
	}
	f.mu.Unlock()

	if err := f.handOut(ctx, h); err != nil {
		f.goOn(f.leave(h))
		return err
	}
	// Room may be short for a moment: entries of messages that others watched
	// and ended stay in the channel until the tracker comes by.
	f.handed <- handed{h, h.msg}
	if h.lane != "" {
		h.owner.CompareAndSwap(ownerOffer, ownerTracker)
	}
	return nil
}

// acquire takes a slot of the window. f.mu is held on entry and on return, and
// given up while it waits.
func (f *Flow) acquire(ctx context.Context) error {
	for !f.closing && f.used >= f.window {
		f.waiting++
		f.mu.Unlock()
		var err error
		select {
		case <-f.room:
		case <-f.draining:
		case <-ctx.Done():
			err = ctx.Err()
		}
		f.mu.Lock()
		f.waiting--
		if err != nil {
			return err
		}
	}
	if f.closing {
		return ErrClosed
	}
	f.used++
	f.wake()
	return nil
}

// wake lets one waiting Offer look for room; that one wakes the next. f.mu is held.
func (f *Flow) wake() {
	if f.waiting > 0 && f.used < f.window {
		select {
		case f.room <- struct{}{}:
		default:
		}
	}
}

// release gives slots of the window back. f.mu is held.
func (f *Flow) release(slots int) {
	f.used -= slots
	f.wake()
	if f.freed != nil {
		f.freed()
	}
	if f.closing && f.used == 0 {
		f.finish()
	}
}

// handOut sends the delivery's message. An error, ErrClosed or that of ctx, means
// that nobody will see it.
func (f *Flow) handOut(ctx context.Context, h *handout) error {
	h.msg = h.delivery.Message()
	select {
	case f.out <- h.msg:
		return nil
	default:
	}
	select {
	case f.out <- h.msg:
		return nil
	case <-f.draining:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}
