package ledgertest

import (
	"github.com/hapax-go/hapax/dedup"
)

var releases = []check{
	{"releases/leave no mark (I3)", longWindow, func(s *store) {
		failed := s.event("order")
		for range 3 {
			s.claims(dedup.Fresh, failed)
			s.release(failed)
			failed = again(failed)
		}
		s.claims(dedup.Fresh, failed)
		s.completes(false, failed)
		s.claims(dedup.Duplicate, again(failed))
	}},
	{"releases/never touch a mark", longWindow, func(s *store) {
		done := s.processed("order")
		s.release(done)
		s.release(again(done))
		s.claims(dedup.Duplicate, again(done))
		s.completes(false, done)
	}},
	{"releases/may be repeated", longWindow, func(s *store) {
		entry := s.event("order")
		s.claims(dedup.Fresh, entry)
		s.release(entry, retry(entry))
		s.release(entry)
		s.claims(dedup.Fresh, again(entry))
	}},
}
