package ledgertest

import (
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
)

var verdicts = []check{
	{"verdicts/fresh then in flight then duplicate (I4)", longWindow, func(s *store) {
		first := s.event("order")
		s.claims(dedup.Fresh, first)
		s.claims(dedup.InFlight, again(first))
		s.claims(dedup.InFlight, again(first))
		s.completes(false, first)
		s.claims(dedup.Duplicate, again(first))
		s.claims(dedup.Duplicate, again(first))
	}},
	{"verdicts/outcomes overwrite what was there", longWindow, func(s *store) {
		entry := s.event("order")
		entry.Verdict, entry.Lost = dedup.Conflict, true
		s.claims(dedup.Fresh, entry)
		s.renews(false, longLease, entry)
		entry.Lost = true
		s.completes(false, entry)
	}},
	{"verdicts/empty calls", longWindow, func(s *store) {
		require.NoError(s, s.Ledger.Claim(s.Context(), longLease, nil))
		require.NoError(s, s.Ledger.Renew(s.Context(), longLease, nil))
		require.NoError(s, s.Ledger.Complete(s.Context(), nil))
		require.NoError(s, s.Ledger.Release(s.Context(), nil))
	}},
	{"verdicts/every entry of a mixed call gets its own", longWindow, func(s *store) {
		done, held := s.processed("done"), s.event("held")
		s.claims(dedup.Fresh, held)
		other := dedup.NewDigest([]byte("other payload"))
		entries := []*dedup.Entry{
			again(done), s.event("new"), again(held), with(again(done), other), with(again(held), other), s.event("newer"),
		}
		s.claim(longLease, entries...)
		var got []dedup.Verdict
		for _, entry := range entries {
			got = append(got, entry.Verdict)
		}
		require.Equal(s, []dedup.Verdict{
			dedup.Duplicate, dedup.Fresh, dedup.InFlight, dedup.Conflict, dedup.Conflict, dedup.Fresh,
		}, got)

		entries = []*dedup.Entry{again(held), entries[1], again(done), held}
		require.NoError(s, s.Ledger.Complete(s.Context(), entries))
		var lost []bool
		for _, entry := range entries {
			lost = append(lost, entry.Lost)
		}
		require.Equal(s, []bool{true, false, true, false}, lost)
	}},
}
