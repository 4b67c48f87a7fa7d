package ledgertest

import "github.com/hapax-go/hapax/dedup"

var durability = []check{
	{"durability/marks and leases outlive the process (I4)", longWindow, func(s *store) {
		if s.Reopen == nil {
			s.Skip("the store does not outlive its process: Harness.Reopen is nil")
		}
		done, owner := s.processed("done"), s.event("running")
		s.claims(dedup.Fresh, owner)
		s.Ledger = s.Reopen()
		s.claims(dedup.Duplicate, again(done))
		s.claims(dedup.Conflict, with(again(done), dedup.NewDigest([]byte("other payload"))))
		s.claims(dedup.InFlight, again(owner))
		s.completes(false, owner)
		s.completes(false, retry(done))
		s.Ledger = s.Reopen()
		s.claims(dedup.Duplicate, again(owner))
	}},
}
