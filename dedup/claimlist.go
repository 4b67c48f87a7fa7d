package dedup

import "sync"

// claimList holds the claims of a keeper, or a share of them. Each knows its place, so
// that coming and going touches nothing of another claim: that lies in another
// processor's cache, and most claims stand here for some microseconds.
type claimList struct {
	mu     sync.Mutex
	places []*ledgerClaim // nil: free
	free   []int
	_      [8]byte // two lists never share a cache line
}

func (l *claimList) add(claim *ledgerClaim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last := len(l.free) - 1; last >= 0 {
		claim.place, l.free = l.free[last], l.free[:last]
	} else {
		claim.place, l.places = len(l.places), append(l.places, nil)
	}
	l.places[claim.place] = claim
}

// remove takes a claim out and reports whether it was in.
func (l *claimList) remove(claim *ledgerClaim) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if claim.place >= len(l.places) || l.places[claim.place] != claim {
		return false
	}
	l.places[claim.place] = nil
	l.free = append(l.free, claim.place)
	return true
}

// due calls take for the claims whose deadline is not between limit and latest.
func (l *claimList) due(limit, latest int64, take func(*ledgerClaim)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, claim := range l.places {
		if claim == nil {
			continue
		}
		if deadline := claim.deadline.Load(); deadline <= limit || deadline > latest {
			take(claim)
		}
	}
}
