package ledgertest

import "github.com/hapax-go/hapax/dedup"

var peers = []check{
	{"peers/see each other's leases and marks", longWindow, func(s *store) {
		if s.Peer == nil {
			s.Skip("the store lives in one process: Harness.Peer is nil")
		}
		here, peer := *s, *s
		peer.Ledger = s.Peer()
		first, second := s.event("first"), s.event("second")
		here.claims(dedup.Fresh, first)
		peer.claims(dedup.InFlight, again(first))
		peer.claims(dedup.Fresh, second)
		here.completes(true, again(second))
		here.completes(false, first)
		peer.claims(dedup.Duplicate, again(first))
		peer.release(second)
		here.claims(dedup.Fresh, again(second))
	}},
}
