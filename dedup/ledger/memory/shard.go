package memory

import (
	"sync"

	"github.com/hapax-go/hapax/dedup"
)

// shard holds a part of the IDs. An ID with a lease has no live mark.
type shard struct {
	mu     sync.Mutex
	leases map[dedup.ID]lease
	marks  marks
	// sweepAt is the number of leases at which abandoned ones are looked for.
	sweepAt int
	// Two shards never share a cache line.
	_ [64]byte
}

// lease holds no pointers, so that the garbage collector never walks the map.
type lease struct {
	digest dedup.Digest
	token  uint64
	until  int64
}

const (
	// expirePerCall: an ID is touched by at least two calls (Claim, Complete),
	// so removing two a call is already faster than marks can arrive.
	expirePerCall = 2
	minSweep      = 64
)

// claim decides entries[i]; false: the ledger is full and nothing was changed.
func (s *shard) claim(l *Ledger, entries []*dedup.Entry, i int, now, until int64) bool {
	entry := entries[i]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(l, now)
	if len(s.leases) >= s.sweepAt {
		s.sweep(l, now)
	}

	if _, mark := s.marks.find(&entry.ID); mark != nil && mark.until > now {
		entry.Verdict = dedup.Duplicate
		if !mark.digest.Matches(entry.Digest) {
			entry.Verdict = dedup.Conflict
		}
		return true
	}

	held, found := s.leases[entry.ID]
	switch {
	case !found:
		if !l.reserve() {
			return false
		}
	case held.until <= now: // taken over
	case !held.digest.Matches(entry.Digest):
		entry.Verdict = dedup.Conflict
		return true
	case held.token != entry.Token || repeats(entries[:i], entry):
		entry.Verdict = dedup.InFlight
		return true
	}
	s.leases[entry.ID] = lease{digest: entry.Digest, token: entry.Token, until: until}
	entry.Verdict = dedup.Fresh
	return true
}

// repeats tells a lease that this very call took for an earlier entry (InFlight)
// from one that the same token took in a call whose answer was lost (Fresh).
func repeats(earlier []*dedup.Entry, entry *dedup.Entry) bool {
	for _, other := range earlier {
		if other.ID == entry.ID && other.Token == entry.Token {
			return true
		}
	}
	return false
}

func (s *shard) renew(entry *dedup.Entry, until int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held, found := s.leases[entry.ID]
	entry.Lost = !found || held.token != entry.Token
	if !entry.Lost {
		held.until = until
		s.leases[entry.ID] = held
	}
}

func (s *shard) complete(l *Ledger, entry *dedup.Entry, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(l, now)
	if held, found := s.leases[entry.ID]; found && held.token == entry.Token {
		delete(s.leases, entry.ID)
		if !s.marks.add(mark{id: entry.ID, digest: held.digest, token: held.token, until: now + l.window}) {
			l.size.Add(-1)
		}
		entry.Lost = false
		return
	}
	_, mark := s.marks.find(&entry.ID)
	entry.Lost = mark == nil || mark.token != entry.Token || mark.until <= now
}

func (s *shard) release(l *Ledger, entry *dedup.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if held, found := s.leases[entry.ID]; found && held.token == entry.Token {
		delete(s.leases, entry.ID)
		l.size.Add(-1)
	}
}

// expire removes a few marks whose window is over, and reports whether more may
// be due.
func (s *shard) expire(l *Ledger, now int64) bool {
	for range expirePerCall {
		head := s.marks.head()
		if head == nil || head.until > now {
			return false
		}
		if s.marks.pop() {
			l.size.Add(-1)
		}
	}
	return true
}

// sweep forgets leases that ran out a whole window ago: until then their owner,
// however slow, may still complete. It runs when the number of leases has
// doubled since the last sweep, so its cost is a constant share of each claim.
func (s *shard) sweep(l *Ledger, now int64) {
	for id, held := range s.leases {
		if held.until <= now-l.window {
			delete(s.leases, id)
			l.size.Add(-1)
		}
	}
	s.sweepAt = max(minSweep, 2*len(s.leases))
}
