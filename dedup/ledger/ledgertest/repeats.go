package ledgertest

import (
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
)

// Copies of one event often arrive together, in one batch.
var repeats = []check{
	{"repeats/an ID twice in a claim is fresh once", longWindow, func(s *store) {
		first := s.event("order")
		entries := []*dedup.Entry{first, s.event("other"), again(first), again(first)}
		s.claim(longLease, entries...)
		require.Equal(s, dedup.Fresh, entries[0].Verdict)
		require.Equal(s, dedup.Fresh, entries[1].Verdict)
		require.Equal(s, dedup.InFlight, entries[2].Verdict)
		require.Equal(s, dedup.InFlight, entries[3].Verdict)
		s.completes(true, entries[2])
		s.completes(false, entries[0])
	}},
	// A caller may draw one token for its whole batch. Were the second copy taken
	// for a retry of the first, both would run, and both would complete.
	{"repeats/an ID twice under one token is fresh once", longWindow, func(s *store) {
		first := s.event("order")
		entries := []*dedup.Entry{first, retry(first)}
		s.claim(longLease, entries...)
		require.Equal(s, dedup.Fresh, entries[0].Verdict)
		require.Equal(s, dedup.InFlight, entries[1].Verdict)
	}},
	{"repeats/an ID twice with two payloads is a conflict (I6)", longWindow, func(s *store) {
		first := s.event("order")
		second := with(again(first), dedup.NewDigest([]byte("other payload")))
		s.claim(longLease, first, second)
		require.Equal(s, dedup.Fresh, first.Verdict)
		require.Equal(s, dedup.Conflict, second.Verdict)
		s.completes(false, first)
		s.claims(dedup.Duplicate, again(first))
	}},
	{"repeats/a marked ID twice is a duplicate twice", longWindow, func(s *store) {
		done := s.processed("order")
		entries := []*dedup.Entry{again(done), again(done)}
		s.claim(longLease, entries...)
		s.allAre(dedup.Duplicate, entries)
	}},
	{"repeats/only the owner completes when a call names an ID twice (I5)", longWindow, func(s *store) {
		owner := s.event("order")
		s.claims(dedup.Fresh, owner)
		entries := []*dedup.Entry{again(owner), owner, retry(owner), again(owner)}
		require.NoError(s, s.Ledger.Complete(s.Context(), entries))
		for i, wantLost := range []bool{true, false, false, true} {
			require.Equal(s, wantLost, entries[i].Lost, "entry %d", i)
		}
	}},
}
