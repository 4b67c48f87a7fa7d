package kafka

import (
	"slices"
	"sync"
)

// progress finds how far the offset of a partition may be committed. Deliveries
// end in any order; the offset is the end of the contiguous run of those that are
// settled, or are staged to be settled by the transaction that commits the offset.
// flow.Watermark does not have that second state, which an abort takes back.
type progress struct {
	mu      sync.Mutex
	offsets []offset // from the oldest unsettled one on
	top     int64    // highest offset begun, -1 when none
	// committed is the offset that was committed last, as far as known.
	committed int64
}

type offset struct {
	at    int64
	state offsetState
}

type offsetState uint8

const (
	open offsetState = iota
	staged
	settled
)

func newProgress() *progress { return &progress{top: -1, committed: -1} }

// begin registers an offset that was received. Offsets come in ascending order.
func (p *progress) begin(at int64, state offsetState) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at <= p.top {
		return false
	}
	p.top = at
	p.offsets = append(p.offsets, offset{at, state})
	p.advance()
	return true
}

// set changes the state of an offset, unless it is settled.
func (p *progress) set(at int64, state offsetState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, found := slices.BinarySearchFunc(p.offsets, at, func(o offset, at int64) int { return int(o.at - at) })
	if !found || p.offsets[i].state == settled {
		return
	}
	p.offsets[i].state = state
	p.advance()
}

// advance cuts the settled run at the bottom off.
func (p *progress) advance() {
	n := 0
	for n < len(p.offsets) && p.offsets[n].state == settled {
		n++
	}
	p.offsets = p.offsets[n:]
	if len(p.offsets) == 0 {
		p.offsets = nil
	}
}

// settledTo reports whether every offset up to one is settled.
func (p *progress) settledTo(at int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.offsets) == 0 || p.offsets[0].at > at
}

// low is the offset to commit: everything below it is settled or, for the
// transaction that asks, staged. news is false when that is committed already, or
// nothing was received yet.
func (p *progress) low(withStaged bool) (next int64, news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next = p.top + 1
	for _, o := range p.offsets {
		if o.state == open || o.state == staged && !withStaged {
			next = o.at
			break
		}
	}
	return next, p.top >= 0 && next > p.committed
}

// done notes an offset as committed.
func (p *progress) done(next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.committed = max(p.committed, next)
}
