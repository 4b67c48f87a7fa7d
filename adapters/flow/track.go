package flow

import (
	"runtime"
	"time"
)

const (
	// soon is how long the tracker waits for the oldest message before it looks at
	// those behind it; that doubles up to late while it finds nothing. What ended
	// behind an unfinished message is noticed so much later.
	soon = time.Millisecond
	late = 8 * time.Millisecond
	// batch is how many slots the tracker collects before it gives them back
	// while there is more to do: every return may switch to a waiting Offer.
	batch = 64
)

// tracker ends deliveries oldest first. Where handlers take long, every message is
// unfinished for long, which says nothing against the oldest. It is slow when those
// behind it end and it does not; then it gets a goroutine of its own.
type tracker struct {
	*Flow
	timer *time.Timer
	// open is what was handed out and has not ended, oldest first. When the tracker
	// last looked, others had ended behind the first overtaken of them.
	open      []handed
	overtaken int
	room      []handed // open is at the end of it
	// freed counts the slots to give back.
	freed int
}

func (f *Flow) track() {
	t := tracker{Flow: f, timer: time.NewTimer(soon)}
	defer t.timer.Stop()
	for pause := soon; t.collect(); {
		oldest := t.open[0]
		if !oldest.taken() {
			switch t.wait(oldest, pause) {
			case unfinished:
				if t.look(pause == late) {
					pause = soon
				} else {
					pause = min(2*pause, late)
				}
				continue
			case acked:
				t.end(oldest)
			case special:
				t.setApart(oldest)
			}
		}
		t.open[0] = handed{}
		t.open = t.open[1:]
		t.overtaken = max(t.overtaken-1, 0)
		pause = soon
	}
}

// collect waits until there is something to track, and reports false when there will
// be nothing any more.
func (t *tracker) collect() bool {
	if len(t.open) > 0 || t.receive() {
		return true
	}
	t.flush()
	h, open := <-t.handed
	if open {
		t.add(h)
		t.receive()
	}
	return open
}

// receive takes over what was handed out by now, and reports whether that was
// anything.
func (t *tracker) receive() (found bool) {
	for {
		select {
		case h, open := <-t.handed:
			if !open {
				return found
			}
			t.add(h)
			found = true
		default:
			return found
		}
	}
}

func (t *tracker) add(h handed) {
	if len(t.open) == cap(t.open) {
		t.open = append(t.room[:0], t.open...)
	}
	if t.open = append(t.open, h); cap(t.open) > cap(t.room) {
		t.room = t.open
	}
}

// What became of a message.
type outcome int

const (
	unfinished outcome = iota
	acked
	special // not for the tracker: nacked, or the flow's deadline has passed
)

// wait waits for a message, for a while.
func (t *tracker) wait(h handed, pause time.Duration) outcome {
	if isClosed(h.first.Acked()) {
		return acked
	}
	t.flush()
	// On a busy machine the handler gets its turn here, and often those of the
	// next messages too. That is far cheaper than to be woken for each.
	runtime.Gosched()
	if isClosed(h.first.Acked()) {
		return acked
	}
	t.timer.Reset(pause)
	select {
	case <-h.first.Acked():
		return acked
	case <-h.first.Nacked():
	case <-t.deadline:
	case <-t.timer.C:
		return unfinished
	}
	return special
}

// look looks at every message that is open, and reports whether any has ended. What
// was overtaken at the last look too is slow, and so is the oldest when nothing has
// ended for long: it may be the only one.
func (t *tracker) look(long bool) (found bool) {
	t.receive()
	left, overtaken := t.open[:0], 0
	for i, h := range t.open {
		switch {
		case h.taken():
		case isClosed(h.first.Acked()):
			t.end(h)
			found, overtaken = true, len(left)
		case i < t.overtaken, i == 0 && long, isClosed(h.first.Nacked()):
			t.setApart(h)
		default:
			left = append(left, h)
		}
	}
	clear(t.open[len(left):])
	t.open, t.overtaken = left, overtaken
	return found
}

// end ends a message that is acked, unless a watcher has it.
func (t *tracker) end(h handed) {
	switch {
	case !h.tracked():
	case h.lane == "":
		h.delivery.Acked()
		if t.freed++; t.freed == batch {
			t.flush()
		}
	default:
		h.delivery.Acked()
		t.goOn(t.leave(h.handout))
	}
}

// setApart gives a message a goroutine, unless it has one.
func (t *tracker) setApart(h handed) {
	if h.tracked() {
		t.goroutines.Go(func() { t.watch(h.handout) })
	}
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
