package ledgertest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
)

// store is the ledger under check, with the few verbs the checks are told in.
type store struct {
	T
	Harness
	scope  dedup.Scope
	window time.Duration
	start  time.Time
}

func newStore(t T, harness Harness, window time.Duration) *store {
	// A new scope a run: its IDs are unknown to a store that is not empty.
	scope := dedup.Scope{Service: "ledgertest", Handler: fmt.Sprint(dedup.NextToken())}
	return &store{T: t, Harness: harness, scope: scope, window: window, start: time.Now()}
}

// event returns a first claim on the event of that name.
func (s *store) event(name string) *dedup.Entry {
	return &dedup.Entry{
		ID: dedup.NewID(s.scope, name), Digest: dedup.NewDigest([]byte(name)), Token: dedup.NextToken(),
		EventID: name, Scope: s.scope, Topic: "orders",
	}
}

// events returns first claims on count events.
func (s *store) events(name string, count int) []*dedup.Entry {
	entries := make([]*dedup.Entry, count)
	for i := range entries {
		entries[i] = s.event(fmt.Sprint(name, "-", i))
	}
	return entries
}

// again returns another worker's claim on the same event: a token of its own.
func again(entry *dedup.Entry) *dedup.Entry {
	next := retry(entry)
	next.Token = dedup.NextToken()
	return next
}

func againAll(entries []*dedup.Entry) []*dedup.Entry {
	next := make([]*dedup.Entry, len(entries))
	for i, entry := range entries {
		next[i] = again(entry)
	}
	return next
}

// retry returns the same worker's entry as it was before any call.
func retry(entry *dedup.Entry) *dedup.Entry {
	next := *entry
	next.Verdict, next.Lost = dedup.Undecided, false
	return &next
}

// with returns the entry with another payload's digest.
func with(entry *dedup.Entry, digest dedup.Digest) *dedup.Entry {
	entry.Digest = digest
	return entry
}

func (s *store) claim(lease time.Duration, entries ...*dedup.Entry) {
	s.Helper()
	require.NoError(s, s.Ledger.Claim(s.Context(), lease, entries))
}

// claims claims one entry for a long time and checks the verdict.
func (s *store) claims(want dedup.Verdict, entry *dedup.Entry) {
	s.Helper()
	s.claim(longLease, entry)
	require.Equal(s, want, entry.Verdict, "verdict of %s", entry.EventID)
}

func (s *store) allAre(want dedup.Verdict, entries []*dedup.Entry) {
	s.Helper()
	for _, entry := range entries {
		require.Equal(s, want, entry.Verdict, "verdict of %s", entry.EventID)
	}
}

// completes completes one entry and checks whether it was lost.
func (s *store) completes(wantLost bool, entry *dedup.Entry) {
	s.Helper()
	require.NoError(s, s.Ledger.Complete(s.Context(), []*dedup.Entry{entry}))
	require.Equal(s, wantLost, entry.Lost, "lost on completing %s", entry.EventID)
}

func (s *store) renews(wantLost bool, lease time.Duration, entry *dedup.Entry) {
	s.Helper()
	require.NoError(s, s.Ledger.Renew(s.Context(), lease, []*dedup.Entry{entry}))
	require.Equal(s, wantLost, entry.Lost, "lost on renewing %s", entry.EventID)
}

func (s *store) release(entries ...*dedup.Entry) {
	s.Helper()
	require.NoError(s, s.Ledger.Release(s.Context(), entries))
}

// processed claims and completes an event.
func (s *store) processed(name string) *dedup.Entry {
	s.Helper()
	entry := s.event(name)
	s.claims(dedup.Fresh, entry)
	s.completes(false, entry)
	return entry
}

// advance lets time pass.
func (s *store) advance(d time.Duration) {
	if s.Advance != nil {
		s.Advance(d)
		return
	}
	<-time.After(d)
}

// expired claims again until the lease before has run out, or the mark. The
// time that must pass has passed already, as far as the check can see.
func (s *store) expired(slack time.Duration, before *dedup.Entry, lease time.Duration) *dedup.Entry {
	s.Helper()
	if s.Advance != nil {
		s.Advance(slack)
	}
	deadline := time.Now().Add(slack + 10*time.Second)
	for {
		next := again(before)
		s.claim(lease, next)
		if next.Verdict == dedup.Fresh || s.Advance != nil || time.Now().After(deadline) {
			require.Equal(s, dedup.Fresh, next.Verdict, "%s after its time ran out", before.EventID)
			return next
		}
		s.advance(10 * time.Millisecond)
	}
}

// now is the time since the check started, by which deadlines are kept: zero for
// ever if only Advance moves the store's clock.
func (s *store) now() time.Duration {
	if s.Advance != nil {
		return 0
	}
	return time.Since(s.start)
}

// until checks a verdict that need not hold any more once the time is past
// deadline; on a machine too slow to look in time the check starts again.
func (s *store) until(deadline time.Duration, want dedup.Verdict, entry *dedup.Entry) {
	s.Helper()
	s.claim(shortLease, entry)
	if s.Advance == nil && s.now() >= deadline {
		panic(slow{})
	}
	require.Equal(s, want, entry.Verdict, "verdict of %s before its time ran out", entry.EventID)
}
