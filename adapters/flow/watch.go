package flow

import (
	"context"
	"time"
)

// goOn gives a lane a goroutine, if there is a next in it.
func (f *Flow) goOn(next *handout) {
	if next != nil {
		f.goroutines.Go(func() { f.watch(f.pass(next)) })
	}
}

// watch waits for a handed-out message and ends its delivery, then goes on with
// the followers in its lane.
func (f *Flow) watch(h *handout) {
	for h != nil {
		select {
		case <-h.msg.Acked():
		case <-h.msg.Nacked():
		case <-f.deadline:
		}
		select {
		case <-h.msg.Acked():
			h.delivery.Acked()
		case <-h.msg.Nacked():
			if f.again(h) {
				continue
			}
		default:
			f.cut.Add(1)
			h.delivery.Abandoned()
		}
		h = f.pass(f.leave(h))
	}
}

// again hands a nacked delivery out once more, after the delay it asked for. It
// reports false when the delivery has ended.
func (f *Flow) again(h *handout) bool {
	if f.wasRecalled(h.msg) {
		h.delivery.Abandoned()
		return false
	}
	after, again := h.delivery.Nacked()
	if !again {
		return false
	}
	var lost <-chan struct{}
	if losable, can := h.delivery.(Losable); can {
		lost = losable.Lost()
	}
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-lost:
		h.delivery.Abandoned()
		return false
	case <-f.draining:
	}
	if isClosed(f.draining) || f.handOut(context.Background(), h) != nil {
		h.delivery.Abandoned()
		return false
	}
	return true
}

// leave frees the slot and the lane of a delivery that has ended, and returns the
// next of the lane, which is to be passed on.
func (f *Flow) leave(h *handout) (next *handout) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next = f.advance(h)
	f.release(1)
	return next
}

// pass hands out the next of a lane, and returns it. While the flow drains, the
// rest of the lane is abandoned: only now, because another member must not get a
// message while its predecessor is still being handled here.
func (f *Flow) pass(next *handout) *handout {
	for next != nil {
		if !isClosed(f.draining) && f.handOut(context.Background(), next) == nil {
			return next
		}
		next.delivery.Abandoned()
		next = f.leave(next)
	}
	return nil
}
