package ledgertest

import (
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
)

// The answers of these first calls are lost on their way: the caller knows
// nothing and calls again.
var retries = []check{
	{"retries/a claim again by the same token is fresh", longWindow, func(s *store) {
		owner := s.event("order")
		s.claims(dedup.Fresh, owner)
		s.claims(dedup.Fresh, retry(owner))
		s.claims(dedup.InFlight, again(owner))
		s.completes(false, owner)
	}},
	{"retries/a claim again leases anew", longWindow, func(s *store) {
		owner := s.event("order")
		s.claim(shortLease, owner)
		s.claims(dedup.Fresh, retry(owner))
		s.advance(2 * shortLease)
		s.claims(dedup.InFlight, again(owner))
	}},
	{"retries/a batch again, joined by new events", longWindow, func(s *store) {
		entries := s.events("order", 50)
		s.claim(longLease, entries[:30]...)
		for i, entry := range entries {
			entries[i] = retry(entry)
		}
		s.claim(longLease, entries...)
		s.allAre(dedup.Fresh, entries)
	}},
	{"retries/completing again is not lost", longWindow, func(s *store) {
		owner := s.event("order")
		s.claims(dedup.Fresh, owner)
		s.completes(false, owner)
		s.completes(false, retry(owner))
		s.completes(true, again(owner)) // somebody else has not completed it
		s.completes(false, retry(owner))
		s.claims(dedup.Duplicate, again(owner))
	}},
	{"retries/completing a batch again, joined by new events", longWindow, func(s *store) {
		entries := s.events("order", 50)
		s.claim(longLease, entries...)
		require.NoError(s, s.Ledger.Complete(s.Context(), entries[:30]))
		require.NoError(s, s.Ledger.Complete(s.Context(), entries))
		for _, entry := range entries {
			require.False(s, entry.Lost, "lost on completing %s", entry.EventID)
		}
	}},
	{"retries/releasing again leaves the next owner alone", longWindow, func(s *store) {
		owner := s.event("order")
		s.claims(dedup.Fresh, owner)
		s.release(owner)
		next := again(owner)
		s.claims(dedup.Fresh, next)
		s.release(retry(owner))
		s.claims(dedup.InFlight, again(owner))
		s.completes(false, next)
	}},
}
