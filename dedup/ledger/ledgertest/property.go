package ledgertest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/hapax-go/hapax/dedup"
)

// The window is a few leases long, so that random histories cross both.
const propertyLease = longWindow / 6

var property = []check{
	{"property/any history is as the contract says", longWindow, func(s *store) {
		rapid.Check(s, func(t *rapid.T) {
			h := newHistory(t, s)
			actions := map[string]func(*rapid.T){
				"claim": h.claim, "complete": h.complete, "renew": h.renew, "release": h.release,
			}
			if s.Advance != nil {
				actions["pass time"] = h.passTime
				actions["pass window"] = h.passWindow
			}
			t.Repeat(actions)
		})
	}},
}

// history runs one random sequence of calls against a store and the model.
type history struct {
	store *store
	model model
	// claimed are all claims made so far, of whatever outcome: any of them may
	// call again, however late.
	claimed []*dedup.Entry
}

// newHistory starts with IDs of its own on the check's store: the runs of one
// property share a store, because opening one may be slow.
func newHistory(t *rapid.T, s *store) *history {
	own := newStore(s.T, s.Harness, s.window)
	own.T = t
	return &history{store: own, model: model{window: s.window, states: map[dedup.ID]state{}}}
}

func (h *history) claim(t *rapid.T) {
	h.store.T = t
	var entries []*dedup.Entry
	for _, name := range rapid.SliceOfNDistinct(rapid.IntRange(0, 3), 1, 3, rapid.ID).Draw(t, "events") {
		entry := h.store.event(fmt.Sprint(name))
		entry.Digest = rapid.SampledFrom([]dedup.Digest{{}, {1}, {2}}).Draw(t, "digest")
		for _, old := range h.claimed {
			if old.ID == entry.ID && rapid.IntRange(0, 3).Draw(t, "retry") == 0 {
				entry = retry(old)
			}
		}
		entries = append(entries, entry)
	}
	if rapid.Bool().Draw(t, "repeat") {
		entries = append(entries, again(entries[0]))
	}
	want := h.model.claim(propertyLease, entries)
	h.store.claim(propertyLease, entries...)
	for i, entry := range entries {
		require.Equal(t, want[i], entry.Verdict, "verdict of entry %d, event %s", i, entry.EventID)
		h.claimed = append(h.claimed, retry(entry))
	}
}

// pick draws somebody who has claimed before.
func (h *history) pick(t *rapid.T) *dedup.Entry {
	h.store.T = t
	if len(h.claimed) == 0 {
		t.Skip("nobody has claimed yet")
	}
	return retry(rapid.SampledFrom(h.claimed).Draw(t, "who"))
}

func (h *history) complete(t *rapid.T) {
	entry := h.pick(t)
	h.store.completes(h.model.complete(entry), entry)
}

func (h *history) renew(t *rapid.T) {
	entry := h.pick(t)
	h.store.renews(h.model.renew(propertyLease, entry), propertyLease, entry)
}

func (h *history) release(t *rapid.T) {
	entry := h.pick(t)
	h.model.release(entry)
	h.store.release(entry)
}

func (h *history) passTime(t *rapid.T) {
	h.pass(rapid.SampledFrom([]time.Duration{propertyLease / 2, propertyLease}).Draw(t, "time"))
}

// passWindow first gives all leases back: how long a store remembers a lease
// that ran out, beyond the window, is its own affair.
func (h *history) passWindow(t *rapid.T) {
	h.store.T = t
	for _, entry := range h.claimed {
		h.model.release(entry)
		h.store.release(retry(entry))
	}
	h.pass(h.store.window)
}

// pass advances both clocks, and once more by the slack while a mark is past its
// window but may still be there.
func (h *history) pass(d time.Duration) {
	h.model.now += d
	h.store.Advance(d)
	for _, state := range h.model.states {
		if state.marked && state.until <= h.model.now && h.model.now < state.until+h.store.Slack {
			h.pass(h.store.Slack)
			return
		}
	}
}
