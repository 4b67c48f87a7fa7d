package ledgertest

import (
	"fmt"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
)

var identities = []check{
	{"identities/all sixteen bytes decide (I8)", longWindow, func(s *store) {
		done := s.processed("order")
		for i := range done.ID {
			other := again(done)
			other.ID[i] ^= 1
			s.claims(dedup.Fresh, other)
			s.completes(false, other)
		}
		s.claims(dedup.Duplicate, again(done))
	}},
	{"identities/IDs of any bytes are told apart in one call (I8)", longWindow, func(s *store) {
		prefix := s.event("order").ID
		var entries []*dedup.Entry
		for i := range 256 {
			entry := s.event("order")
			entry.ID = prefix
			entry.ID[14], entry.ID[15] = byte(i), byte(255-i)
			entries = append(entries, entry)
		}
		s.claim(longLease, entries...)
		s.allAre(dedup.Fresh, entries)
		require.NoError(s, s.Ledger.Complete(s.Context(), entries))
		s.noneLost(entries)
	}},
	{"identities/scopes are independent", longWindow, func(s *store) {
		var entries []*dedup.Entry
		for i := range 50 {
			entry := s.event("order")
			entry.Scope.Handler = fmt.Sprint(s.scope.Handler, i)
			entry.ID = dedup.NewID(entry.Scope, entry.EventID)
			entries = append(entries, entry)
		}
		s.claim(longLease, entries...)
		s.allAre(dedup.Fresh, entries)
		s.completes(false, entries[0])
		for _, entry := range entries[1:] {
			s.claims(dedup.InFlight, again(entry))
			s.completes(false, entry)
		}
	}},
	{"identities/reports may hold any text", longWindow, func(s *store) {
		for _, text := range []string{"", "it's \"quoted\" \\ 100% ? $1", "päckchen-包裹-📦", "\xff\xfe not UTF-8", "a\x00b"} {
			entry := s.event("order")
			entry.EventID, entry.Topic, entry.Scope.Handler = text, text, text
			entry.ID = dedup.NewID(s.scope, text+"!")
			s.claims(dedup.Fresh, entry)
			s.completes(false, entry)
			s.claims(dedup.Duplicate, again(entry))
		}
	}},
}
