package flow

import (
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"
)

// handout is a delivery inside the flow. Its window slot is taken from Offer
// until it has ended.
type handout struct {
	delivery Delivery
	lane     string
	// msg is what is handed out now; written and read by the owner only.
	msg   *message.Message
	owner atomic.Int32

	// The deliveries of a lane form a list, oldest first; Flow.lanes points to
	// the oldest, the only one handed out. Guarded by Flow.mu.
	next *handout
	last *handout // end of the list; valid in the oldest only
}

// handed is an entry of the tracker's queue. It has the message apart, because a
// watcher may take the handout and replace its message before the tracker looks.
type handed struct {
	*handout
	first *message.Message
}

// Who waits for a handout's message, and ends it.
const (
	ownerOffer   = iota // Offer is still handing it out
	ownerTracker        // the tracker will come to it; a watcher may take it away
	ownerTaken          // nobody else may take it
)

// watched takes the handout from the tracker, for a goroutine of its own. It
// fails when somebody else has it already, who then sees to the lane.
func (h *handout) watched() bool {
	return h.owner.CompareAndSwap(ownerTracker, ownerTaken)
}

// taken reports that the tracker need not look at the handout.
func (h *handout) taken() bool {
	return h.lane != "" && h.owner.Load() == ownerTaken
}

// tracked takes the handout for the tracker; it fails when a watcher has it. The
// tracker may come to it before Offer has let go.
func (h *handout) tracked() bool {
	return h.lane == "" || h.owner.Swap(ownerTaken) != ownerTaken
}

// queue appends a follower to the lane that h is the oldest of.
func (h *handout) queue(follower *handout) {
	h.last.next = follower
	h.last = follower
}

// advance ends h in its lane and returns the next of the lane. f.mu is held.
func (f *Flow) advance(h *handout) *handout {
	if h.lane == "" {
		return nil
	}
	next := h.next
	if next == nil {
		delete(f.lanes, h.lane)
		return nil
	}
	next.last = h.last
	next.owner.Store(ownerTaken)
	f.lanes[h.lane] = next
	return next
}
