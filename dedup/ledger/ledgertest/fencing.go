package ledgertest

import (
	"github.com/hapax-go/hapax/dedup"
)

// takenOver returns an owner whose lease ran out, and the one who took over for
// a long time.
func (s *store) takenOver() (old, owner *dedup.Entry) {
	s.Helper()
	old = s.event("order")
	s.claim(shortLease, old)
	s.advance(shortLease)
	return old, s.expired(0, old, longLease)
}

var fencing = []check{
	{"fencing/a taken-over token cannot complete (I5)", longWindow, func(s *store) {
		old, owner := s.takenOver()
		s.completes(true, old)
		s.claims(dedup.InFlight, again(old)) // no mark was made, the lease was kept
		s.completes(false, owner)
		s.claims(dedup.Duplicate, again(old))
		s.completes(true, old)
	}},
	{"fencing/a taken-over token cannot renew (I5)", longWindow, func(s *store) {
		old, owner := s.takenOver()
		s.renews(true, longLease, old)
		s.renews(false, longLease, owner)
		s.completes(false, owner)
	}},
	{"fencing/a taken-over token cannot release (I5)", longWindow, func(s *store) {
		old, owner := s.takenOver()
		s.release(old)
		s.claims(dedup.InFlight, again(old))
		s.completes(false, owner)
	}},
	// A fence that counted claims of an ID, and forgot the count with the lease,
	// would give token three the number that token one had.
	{"fencing/an old token stays out after release and claim (I5)", longWindow, func(s *store) {
		one, two := s.takenOver()
		s.release(two)
		three := again(one)
		s.claims(dedup.Fresh, three)
		s.completes(true, one)
		s.renews(true, longLease, one)
		s.release(one)
		s.claims(dedup.InFlight, again(one))
		s.completes(false, three)
	}},
	{"fencing/nobody completes or renews what was not claimed", longWindow, func(s *store) {
		stranger := s.event("order")
		s.renews(true, longLease, stranger)
		s.completes(true, stranger)
		s.release(stranger)
		s.claims(dedup.Fresh, again(stranger))
	}},
	{"fencing/a released token cannot complete (I3)", longWindow, func(s *store) {
		entry := s.event("order")
		s.claims(dedup.Fresh, entry)
		s.release(entry)
		s.completes(true, entry)
		s.claims(dedup.Fresh, again(entry))
	}},
}
