package memory

import (
	"math"
	"sync"

	"github.com/hapax-go/hapax/dedup"
)

// shard holds a part of the IDs. An ID has a lease or a mark, never both.
//
// It is two cache lines, which processors fetch as a pair. Every other call finds
// them in another processor's cache, so a third would be felt.
type shard struct {
	mu sync.Mutex
	// due is when the oldest mark expires, so that a call that finds nothing due
	// does not touch the log's head, which is in nobody's cache.
	due    int64
	index  index
	leases leases
	marks  marks
	// sweepAt is the number of leases at which abandoned ones are looked for.
	sweepAt int32
	// room is how many more entries fit before the ledger must be asked.
	room int32
}

const (
	// expirePerMark: removing two for each that is added keeps ahead of any load.
	expirePerMark = 2
	minSweep      = 64
	// noneDue is the due of a shard without marks.
	noneDue = math.MaxInt64
)

// find returns the slot of an ID, or the empty one where it belongs. The index
// must have room. Only all 16 bytes decide.
func (s *shard) find(id *dedup.ID) (slot int, found bool) {
	if len(s.index.slots) == 0 {
		return 0, false
	}
	hash, mask := hashOf(id), len(s.index.slots)-1
	for i := s.index.home(hash); ; i = (i + 1) & mask {
		switch slot := s.index.slots[i]; {
		case slot == 0:
			return i, false
		case uint32(slot>>32) == hash && *s.id(place(slot)) == *id:
			return i, true
		}
	}
}

func (s *shard) id(p place) *dedup.ID {
	if p&leased != 0 {
		return &s.leases.at(p).id
	}
	return &s.marks.at(p).id
}

// held returns the lease that an entry's token holds, or nil.
func (s *shard) held(entry *dedup.Entry) (slot int, held *lease) {
	slot, found := s.find(&entry.ID)
	if !found || s.index.place(slot)&leased == 0 {
		return slot, nil
	}
	if held := s.leases.at(s.index.place(slot)); held.token == entry.Token {
		return slot, held
	}
	return slot, nil
}

// claim decides entries[i]; false: the ledger is full and nothing was changed.
func (s *shard) claim(l *Ledger, entries []*dedup.Entry, i int, until int64) bool {
	entry := entries[i]
	taken := lease{id: entry.ID, digest: entry.Digest, token: entry.Token, until: until}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leases.used >= s.sweepAt {
		s.sweep(l, l.clock())
	}
	s.index.makeRoom()

	slot, found := s.find(&entry.ID)
	switch {
	case !found:
		if !s.reserve(l) {
			return false
		}
		s.index.fill(slot, &entry.ID, s.leases.add(taken))
	case s.index.place(slot)&leased == 0:
		if mark := s.marks.at(s.index.place(slot)); mark.until > l.clock() {
			entry.Verdict = dedup.Duplicate
			if !mark.digest.Matches(entry.Digest) {
				entry.Verdict = dedup.Conflict
			}
			return true
		}
		// Expired. Its entry in the log is passed over when its turn comes.
		s.index.set(slot, s.leases.add(taken))
	default:
		held := s.leases.at(s.index.place(slot))
		switch {
		case held.until <= l.clock(): // taken over
		case !held.digest.Matches(entry.Digest):
			entry.Verdict = dedup.Conflict
			return true
		case held.token != entry.Token || repeats(entries[:i], entry):
			entry.Verdict = dedup.InFlight
			return true
		}
		*held = taken
	}
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
	_, held := s.held(entry)
	entry.Lost = held == nil
	if held != nil {
		held.until = until
	}
}

func (s *shard) complete(l *Ledger, entry *dedup.Entry, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(l, now)
	slot, found := s.find(&entry.ID)
	if !found {
		entry.Lost = true
		return
	}
	at := s.index.place(slot)
	if at&leased == 0 {
		mark := s.marks.at(at)
		entry.Lost = mark.token != entry.Token || mark.until <= now
		return
	}
	held := s.leases.at(at)
	if entry.Lost = held.token != entry.Token; entry.Lost {
		return
	}
	until := now + l.window
	s.index.set(slot, s.marks.append(mark{id: held.id, digest: held.digest, token: held.token, until: until}))
	s.leases.remove(at)
	s.due = min(s.due, until)
}

func (s *shard) release(l *Ledger, entry *dedup.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slot, held := s.held(entry); held != nil {
		s.forget(l, slot)
	}
}

// forget removes an entry.
func (s *shard) forget(l *Ledger, slot int) {
	if at := s.index.place(slot); at&leased != 0 {
		s.leases.remove(at)
	}
	s.index.remove(slot)
	if s.room++; s.room >= 2*roomPerShard {
		s.room -= roomPerShard
		l.left.Add(roomPerShard)
	}
}

// reserve counts one more entry, or reports that the ledger is full.
func (s *shard) reserve(l *Ledger) bool {
	if s.room == 0 {
		s.room = l.take()
	}
	if s.room == 0 {
		return false
	}
	s.room--
	return true
}

// expire removes a few marks whose window is over, and reports whether more may
// be due.
func (s *shard) expire(l *Ledger, now int64) bool {
	if now < s.due {
		return false
	}
	for range expirePerMark {
		number, head := s.marks.head()
		if head == nil || head.until > now {
			break
		}
		if slot, found := s.find(&head.id); found && s.index.place(slot) == number {
			s.forget(l, slot)
		}
		s.marks.pop()
	}
	s.due = noneDue
	if _, head := s.marks.head(); head != nil {
		s.due = head.until
	}
	return s.due <= now
}

// sweep forgets leases that ran out a whole window ago: until then their owner,
// however slow, may still complete. It runs when the number of leases has
// doubled since the last sweep, so its cost is a constant share of each claim.
func (s *shard) sweep(l *Ledger, now int64) {
	for i := range s.leases.all {
		if held := &s.leases.all[i]; held.until <= now-l.window {
			if slot, found := s.find(&held.id); found {
				s.forget(l, slot)
			}
		}
	}
	s.sweepAt = max(minSweep, 2*s.leases.used)
}
