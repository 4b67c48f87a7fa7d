package coalesce

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hapax-go/hapax/dedup"
)

// call is one caller's call on its way through a lane.
type call struct {
	lease   time.Duration
	entries []*dedup.Entry // the caller's own: written only after settle(answered)
	copies  []dedup.Entry
	one     [1]dedup.Entry // backs copies when there is one entry, as nearly always
	state   atomic.Int32
	err     error
	done    chan struct{} // closed when the lane is through with the call
}

// A call is waiting until either the caller or the lane settles it.
const (
	waiting int32 = iota
	abandoned
	answered
)

// newCall copies the entries while they are certainly the caller's to read.
func newCall(lease time.Duration, entries []*dedup.Entry) *call {
	c := &call{lease: lease, entries: entries, done: make(chan struct{})}
	if c.copies = c.one[:]; len(entries) != 1 {
		c.copies = make([]dedup.Entry, len(entries))
	}
	for i, entry := range entries {
		c.copies[i] = *entry
	}
	return c
}

func (c *call) settle(state int32) bool { return c.state.CompareAndSwap(waiting, state) }

// answer writes the outcome back, unless the caller has left, which it reports.
func (c *call) answer(err error) (left bool) {
	defer close(c.done)
	if !c.settle(answered) {
		return true
	}
	if err == nil {
		for i, entry := range c.entries {
			entry.Verdict, entry.Lost = c.copies[i].Verdict, c.copies[i].Lost
		}
	}
	c.err = err
	return false
}

// lane sends calls of one kind, one batch at a time.
type lane struct {
	send    func(ctx context.Context, lease time.Duration, entries []*dedup.Entry) error
	forget  func(*call) // is told of calls that were left
	mutex   sync.Mutex
	running bool
	queue   []*call
}

// add queues a call, and reports whether the caller must start the lane.
func (l *lane) add(call *call) (start bool) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.queue = append(l.queue, call)
	start = !l.running
	l.running = true
	return start
}

// run sends batches until none is left. Whether there is one, and that the lane
// stops, is decided under one lock: a call added at that moment either is seen,
// or starts the lane anew.
func (l *lane) run(maxBatch int, timeout time.Duration) {
	for {
		l.gather(maxBatch)
		batch := l.next(maxBatch)
		if batch == nil {
			return
		}
		entries := make([]*dedup.Entry, 0, len(batch))
		for _, call := range batch {
			for i := range call.copies {
				entries = append(entries, &call.copies[i])
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		err := l.send(ctx, batch[0].lease, entries)
		cancel()
		for _, call := range batch {
			if call.answer(err) {
				l.forget(call)
			}
		}
	}
}

// gather lets the callers run that are about to add a call, for as long as there are
// any: what was received together is claimed, and completed, at nearly the same time. It
// waits for nobody who is not ready to run, so a lone call still leaves at once.
func (l *lane) gather(enough int) {
	for before := -1; ; {
		l.mutex.Lock()
		now := len(l.queue)
		l.mutex.Unlock()
		if now == before || now >= enough {
			return
		}
		before = now
		runtime.Gosched()
	}
}

// next takes the longest-waiting call and those of the same lease that fit with
// it. Nil: the lane has stopped.
func (l *lane) next(maxBatch int) []*call {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if batch := l.all(maxBatch); batch != nil {
		return batch
	}
	var batch, rest []*call
	entries := 0
	for _, call := range l.queue {
		switch {
		case call.state.Load() == abandoned: // it has not left, so it never will
			close(call.done)
			l.forget(call)
		case len(batch) == 0, call.lease == batch[0].lease && entries+len(call.entries) <= maxBatch:
			batch = append(batch, call)
			entries += len(call.entries)
		default:
			rest = append(rest, call)
		}
	}
	l.queue = rest
	l.running = len(batch) > 0
	return batch
}

// all takes the whole queue if it is one batch, as nearly always; else nil. The mutex
// is held.
func (l *lane) all(maxBatch int) []*call {
	if len(l.queue) == 0 {
		return nil
	}
	entries := 0
	for _, call := range l.queue {
		entries += len(call.entries)
		if entries > maxBatch || call.lease != l.queue[0].lease || call.state.Load() == abandoned {
			return nil
		}
	}
	batch := l.queue
	l.queue = make([]*call, 0, len(batch))
	return batch
}
