package dedup

import "sync"

// claimList holds the claims of a keeper, or a share of them, by the time of
// their last renewal. The links are in the claims: most claims stand here for
// some microseconds, and an allocation for each would cost more than the rest.
type claimList struct {
	mu          sync.Mutex
	first, last *ledgerClaim
	_           [40]byte // two lists never share a cache line
}

// links is a claim's place in its list; guarded by the list.
type links struct {
	previous, next *ledgerClaim
	listed         bool
}

// add puts a claim at the end.
func (l *claimList) add(claim *ledgerClaim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.push(claim)
}

// remove takes a claim out and reports whether it was in.
func (l *claimList) remove(claim *ledgerClaim) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unlink(claim)
}

// renewed moves a claim, unless it left meanwhile, to the end with a new deadline.
func (l *claimList) renewed(claim *ledgerClaim, deadline int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	claim.deadline.Store(deadline)
	if l.unlink(claim) {
		l.push(claim)
	}
}

// due calls take for the claims whose deadline is not after limit.
func (l *claimList) due(limit int64, take func(*ledgerClaim)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for claim := l.first; claim != nil && claim.deadline.Load() <= limit; claim = claim.next {
		take(claim)
	}
}

func (l *claimList) push(claim *ledgerClaim) {
	claim.links = links{previous: l.last, listed: true}
	if l.last == nil {
		l.first = claim
	} else {
		l.last.next = claim
	}
	l.last = claim
}

func (l *claimList) unlink(claim *ledgerClaim) bool {
	if !claim.listed {
		return false
	}
	if claim.previous == nil {
		l.first = claim.next
	} else {
		claim.previous.next = claim.next
	}
	if claim.next == nil {
		l.last = claim.previous
	} else {
		claim.next.previous = claim.previous
	}
	claim.links = links{}
	return true
}
