package flow

import (
	"runtime"
	"time"
)

const (
	// slow is how long the tracker waits for the oldest message before it gives
	// everything unfinished a goroutine of its own.
	slow = time.Millisecond
	// batch is how many slots the tracker collects before it gives them back
	// while there is more to do: every return may switch to a waiting Offer.
	batch = 64
)

// tracker ends deliveries oldest first.
type tracker struct {
	*Flow
	timer *time.Timer
	// freed counts the slots to give back.
	freed int
	// impatient counts the messages that were handed out before the oldest of
	// them turned out to be slow. They are looked at, and not waited for:
	// waiting a moment for each would add up.
	impatient int
}

func (f *Flow) track() {
	t := tracker{Flow: f, timer: time.NewTimer(slow)}
	defer t.timer.Stop()
	for {
		h, open := t.next()
		if !open {
			return
		}
		if h.taken() {
			continue
		}
		acked := t.wait(h)
		switch {
		case !h.tracked():
		case !acked:
			f.goroutines.Go(func() { f.watch(h.handout) })
		case h.lane == "":
			h.delivery.Acked()
			if t.freed++; t.freed == batch {
				t.flush()
			}
		default:
			h.delivery.Acked()
			f.goOn(f.leave(h.handout))
		}
	}
}

func (t *tracker) next() (h handed, open bool) {
	select {
	case h, open = <-t.handed:
	default:
		t.flush()
		h, open = <-t.handed
	}
	return h, open
}

// wait reports true when the message is acked, and false when it is not to be
// waited for: it was nacked, is slow, or the flow's deadline has passed.
func (t *tracker) wait(h handed) bool {
	if isClosed(h.first.Acked()) {
		return true
	}
	if t.impatient > 0 {
		t.impatient--
		return false
	}
	t.flush()
	// On a busy machine the handler gets its turn here, and often those of the
	// next messages too. That is far cheaper than to be woken for each.
	runtime.Gosched()
	if isClosed(h.first.Acked()) {
		return true
	}
	t.timer.Reset(slow)
	select {
	case <-h.first.Acked():
		return true
	case <-h.first.Nacked():
	case <-t.timer.C:
		t.impatient = len(t.handed)
	case <-t.deadline:
	}
	return false
}

// flush gives the collected slots back; always before the tracker blocks.
func (t *tracker) flush() {
	if t.freed == 0 {
		return
	}
	t.mu.Lock()
	t.release(t.freed)
	t.mu.Unlock()
	t.freed = 0
}

func isClosed(signal <-chan struct{}) bool {
	select {
	case <-signal:
		return true
	default:
		return false
	}
}
