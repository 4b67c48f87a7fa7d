package flow

import (
	"slices"
	"sync"
)

// Watermark finds how far a broker that acknowledges "everything up to here" may
// be acknowledged, when deliveries end in any order: Kafka offsets, AMQP multiple
// acks. Positions begin in ascending order and may leave gaps.
//
// The zero value is ready. All methods are safe for concurrent use; two calls of
// Done may return their watermarks in either order, so keep the larger.
type Watermark struct {
	mu sync.Mutex
	// open holds the positions from the oldest unfinished one on; those before
	// head are used up, and cut off when they are the larger part.
	open []position
	head int
	// top is the highest position begun, if any was.
	top   int64
	begun bool
	// pending counts the unfinished ones in open.
	pending int
}

type position struct {
	at   int64
	done bool
}

// Begin registers a position that was handed out. It must be greater than all
// begun before; one that is not is ignored.
func (w *Watermark) Begin(at int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.begun && at <= w.top {
		return
	}
	w.top, w.begun = at, true
	w.open = append(w.open, position{at: at})
	w.pending++
}

// Done marks a position finished. When that completes the positions at the
// bottom, advanced is true and low is the highest position up to which all are
// finished. A position that is unknown or already finished changes nothing. O(1)
// amortised when positions are dense, O(log pending) with gaps.
func (w *Watermark) Done(at int64) (low int64, advanced bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	open := w.open[w.head:]
	i, found := find(open, at)
	if !found || open[i].done {
		return 0, false
	}
	open[i].done = true
	w.pending--
	if i > 0 {
		return 0, false
	}
	for w.head < len(w.open) && w.open[w.head].done {
		low = w.open[w.head].at
		w.head++
	}
	// Cutting moves no more positions than were used up since the last cut.
	if w.head*2 >= len(w.open) {
		w.open = slices.Delete(w.open, 0, w.head)
		w.head = 0
	}
	return low, true
}

// find looks where the position would be without gaps, then to the left of that:
// gaps only ever bring it closer to the front.
func find(open []position, at int64) (int, bool) {
	if len(open) == 0 || at < open[0].at || at > open[len(open)-1].at {
		return 0, false
	}
	guess := int(min(uint64(at)-uint64(open[0].at), uint64(len(open)-1)))
	if open[guess].at == at {
		return guess, true
	}
	return slices.BinarySearchFunc(open[:guess], at, func(p position, at int64) int {
		switch {
		case p.at < at:
			return -1
		case p.at > at:
			return 1
		}
		return 0
	})
}

// Pending is the number of positions begun and not finished.
func (w *Watermark) Pending() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pending
}

// Reset forgets every position, so that lower ones may begin again, after a
// rewind. Deliveries from before must not call Done any more: their positions
// would be taken for the new ones. Where that cannot be ruled out, use a new
// Watermark instead.
func (w *Watermark) Reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open, w.head, w.pending, w.begun = nil, 0, 0, false
}
