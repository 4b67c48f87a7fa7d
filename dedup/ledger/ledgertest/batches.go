package ledgertest

import (
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
)

const batchSize = 1000

var batches = []check{
	{"batches/of a thousand go through every state", longWindow, func(s *store) {
		entries := s.events("order", batchSize)
		s.claim(longLease, entries...)
		s.allAre(dedup.Fresh, entries)
		require.NoError(s, s.Ledger.Renew(s.Context(), longLease, entries))
		s.noneLost(entries)

		rivals := againAll(entries)
		s.claim(longLease, rivals...)
		s.allAre(dedup.InFlight, rivals)
		require.NoError(s, s.Ledger.Complete(s.Context(), rivals))
		for _, rival := range rivals {
			require.True(s, rival.Lost, "a rival completed %s", rival.EventID)
		}

		require.NoError(s, s.Ledger.Complete(s.Context(), entries))
		s.noneLost(entries)
		late := againAll(entries)
		slices.Reverse(late)
		s.claim(longLease, late...)
		s.allAre(dedup.Duplicate, late)
	}},
	{"batches/of a thousand are released", longWindow, func(s *store) {
		entries := s.events("order", batchSize)
		s.claim(longLease, entries...)
		s.release(entries...)
		next := againAll(entries)
		s.claim(longLease, next...)
		s.allAre(dedup.Fresh, next)
	}},
}

func (s *store) noneLost(entries []*dedup.Entry) {
	s.Helper()
	for _, entry := range entries {
		require.False(s, entry.Lost, "lost %s", entry.EventID)
	}
}
