package ledgertest

import (
	"github.com/hapax-go/hapax/dedup"
)

var conflicts = []check{
	{"conflicts/a marked ID with another payload (I6)", longWindow, func(s *store) {
		done := s.processed("order")
		s.claims(dedup.Conflict, with(again(done), dedup.NewDigest([]byte("other payload"))))
		s.claims(dedup.Duplicate, again(done)) // the mark kept its own digest
	}},
	{"conflicts/a leased ID with another payload (I6)", longWindow, func(s *store) {
		owner := s.event("order")
		s.claims(dedup.Fresh, owner)
		s.claims(dedup.Conflict, with(again(owner), dedup.NewDigest([]byte("other payload"))))
		s.claims(dedup.InFlight, again(owner))
		s.completes(false, owner)
		s.claims(dedup.Duplicate, again(owner))
	}},
	{"conflicts/digests that differ in their last byte (I6)", longWindow, func(s *store) {
		done := s.processed("order")
		other := done.Digest
		other[15] ^= 1
		s.claims(dedup.Conflict, with(again(done), other))
	}},
	{"conflicts/the zero digest matches every other", longWindow, func(s *store) {
		compared := s.event("compared")
		s.claims(dedup.Fresh, compared)
		s.claims(dedup.InFlight, with(again(compared), dedup.Digest{}))
		s.completes(false, compared)
		s.claims(dedup.Duplicate, with(again(compared), dedup.Digest{}))

		ignored := with(s.event("ignored"), dedup.Digest{})
		s.claims(dedup.Fresh, ignored)
		s.claims(dedup.InFlight, with(again(ignored), dedup.Digest{1}))
		s.completes(false, ignored)
		s.claims(dedup.Duplicate, with(again(ignored), dedup.Digest{1}))
	}},
}
