package ledgertest

import (
	"github.com/hapax-go/hapax/dedup"
)

var leases = []check{
	{"leases/hold for their time, then are taken over", longWindow, func(s *store) {
		owner, deadline := s.event("order"), s.now()+shortLease
		s.claim(shortLease, owner)
		s.advance(shortLease / 2)
		s.until(deadline, dedup.InFlight, again(owner))
		s.advance(shortLease / 2)
		s.expired(0, owner, longLease)
	}},
	{"leases/renewing extends them from now", longWindow, func(s *store) {
		owner := s.event("order")
		s.claim(shortLease, owner)
		for range 3 {
			s.advance(shortLease * 3 / 4)
			deadline := s.now() + shortLease
			s.renews(false, shortLease, owner)
			s.advance(shortLease / 2)
			s.until(deadline, dedup.InFlight, again(owner))
		}
		s.advance(shortLease)
		s.expired(0, owner, longLease)
	}},
	{"leases/an expired lease nobody took over completes", longWindow, func(s *store) {
		owner := s.event("order")
		s.claim(shortLease, owner)
		s.advance(2 * shortLease)
		s.completes(false, owner)
		s.claims(dedup.Duplicate, again(owner))
	}},
	{"leases/an expired lease nobody took over renews", longWindow, func(s *store) {
		owner := s.event("order")
		s.claim(shortLease, owner)
		s.advance(2 * shortLease)
		s.renews(false, longLease, owner)
		s.claims(dedup.InFlight, again(owner))
		s.completes(false, owner)
	}},
	{"leases/each claim of a call has the same time", longWindow, func(s *store) {
		owners := s.events("order", 20)
		s.claim(shortLease, owners...)
		s.advance(shortLease)
		for _, owner := range owners {
			next := s.expired(0, owner, longLease)
			s.completes(true, owner)
			s.completes(false, next)
		}
	}},
}
