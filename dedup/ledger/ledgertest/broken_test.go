package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/hapax-go/hapax/dedup"
)

// clock is a clock that tests set.
type clock struct {
	mutex sync.Mutex
	now   time.Duration
}

func (c *clock) Advance(d time.Duration) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.now += d
}

func (c *clock) Now() time.Duration {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.now
}

// broken is a correct ledger, except for one fault. Without a fault it passes
// the suite.
type broken struct {
	fault  string
	clock  *clock
	window time.Duration
	mutex  sync.Mutex
	states map[any]*row
	counts map[uint64]int // "counts claims": the number that a token was given
}

type row struct {
	marked  bool
	digest  dedup.Digest
	token   uint64
	count   int
	until   time.Duration
	claimed time.Duration
}

func newBroken(fault string, clock *clock, window time.Duration) *broken {
	return &broken{fault: fault, clock: clock, window: window, states: map[any]*row{}, counts: map[uint64]int{}}
}

func (b *broken) is(fault string) bool { return b.fault == fault }

func (b *broken) key(entry *dedup.Entry) any {
	switch {
	case b.is("compares eight bytes"):
		return string(entry.ID[:8])
	case b.is("ignores the last byte"):
		return string(entry.ID[:15])
	case b.is("ignores the handler"):
		return entry.Scope.Service + entry.EventID + string(entry.Digest[:])
	}
	return entry.ID
}

// live returns the row of an ID unless it is an expired mark.
func (b *broken) live(entry *dedup.Entry) *row {
	row, now := b.states[b.key(entry)], b.clock.Now()
	switch {
	case row == nil:
		return nil
	case row.marked && row.until <= now && !b.is("keeps marks for ever"):
		return nil
	case b.is("looks into the current generation only") && row.claimed/b.window != now/b.window:
		return nil
	}
	return row
}

func (b *broken) matches(left, right dedup.Digest) bool {
	switch {
	case b.is("compares half of the digest"):
		return [8]byte(left[:8]) == [8]byte(right[:8]) || left.Matches(right)
	case b.is("takes the zero digest for a payload"):
		return left == right
	}
	return left.Matches(right)
}

func (b *broken) owns(row *row, entry *dedup.Entry) bool {
	if b.is("counts claims instead of tokens") {
		return row.count == b.counts[entry.Token]
	}
	return row.token == entry.Token
}

func (b *broken) Claim(_ context.Context, lease time.Duration, entries []*dedup.Entry) error {
	if len(entries) == 0 && b.is("cannot do nothing") {
		return errors.New("no entries")
	}
	if b.is("cuts batches at 500") && len(entries) > 500 {
		entries = entries[:500]
	}
	b.mutex.Lock()
	defer b.mutex.Unlock()
	before := map[any]bool{}
	for _, entry := range entries {
		before[b.key(entry)] = b.live(entry) != nil
	}
	for i, entry := range entries {
		if b.is("refuses odd text") && !utf8.ValidString(entry.EventID) {
			return errors.New("not UTF-8")
		}
		verdict := b.claim(entries[:i], entry)
		if b.is("decides a batch on what was there before") && !before[b.key(entry)] {
			verdict = dedup.Fresh
		}
		if !(b.is("keeps old outcomes") && entry.Verdict != dedup.Undecided) {
			entry.Verdict = verdict
		}
		if b.is("stops at the first that is not fresh") && verdict != dedup.Fresh {
			break
		}
		if b.is("checks, then acts") {
			b.mutex.Unlock()
			runtime.Gosched()
			b.mutex.Lock()
		}
		if verdict == dedup.Fresh {
			b.lease(lease, i, entry)
		}
	}
	return nil
}

func (b *broken) claim(earlier []*dedup.Entry, entry *dedup.Entry) dedup.Verdict {
	row := b.live(entry)
	repeated := false
	for _, other := range earlier {
		repeated = repeated || other.ID == entry.ID
	}
	expired := row != nil && !row.marked && row.until <= b.clock.Now() && !b.is("keeps leases for ever")
	switch {
	case row == nil, expired:
		return dedup.Fresh
	case repeated && b.is("does not compare payloads within a call") && !row.marked:
		return dedup.InFlight
	case b.is("does not compare payloads of leases") && !row.marked && !b.matches(row.digest, entry.Digest):
		return dedup.InFlight
	case !b.matches(row.digest, entry.Digest):
		if b.is("replaces the digest on a conflict") {
			row.digest = entry.Digest
		}
		return dedup.Conflict
	case row.marked:
		if b.is("extends the mark of a duplicate") {
			row.until = b.clock.Now() + b.window
		}
		return dedup.Duplicate
	case row.token == entry.Token && !b.is("does not know its own token") &&
		(!repeated || b.is("takes a copy for a retry")):
		return dedup.Fresh
	case b.is("says duplicate while in flight"):
		return dedup.Duplicate
	}
	return dedup.InFlight
}

func (b *broken) lease(lease time.Duration, i int, entry *dedup.Entry) {
	now, old := b.clock.Now(), b.states[b.key(entry)]
	next := &row{digest: entry.Digest, token: entry.Token, until: now + lease, count: 1, claimed: now}
	if old != nil {
		next.count = old.count + 1
	}
	b.counts[entry.Token] = next.count
	switch {
	case b.is("marks on claim"):
		next.marked, next.until = true, now+b.window
	case b.is("drops the digest"):
		next.digest = dedup.Digest{}
	case b.is("halves leases"):
		next.until = now + lease/2
	case b.is("leases only the first entry for the time asked") && i > 0:
		next.until = now + b.window
	case b.is("keeps the old lease on a retry") && old != nil && old.token == entry.Token:
		next.until = old.until
	}
	b.states[b.key(entry)] = next
}

func (b *broken) Renew(_ context.Context, lease time.Duration, entries []*dedup.Entry) error {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for _, entry := range entries {
		row := b.live(entry)
		entry.Lost = row == nil || row.marked || !b.owns(row, entry)
		if row != nil && b.is("ignores the token on renew") {
			entry.Lost, row.token = false, entry.Token
		}
		if b.is("cannot renew an expired lease") && row != nil && row.until <= b.clock.Now() {
			entry.Lost = true
		}
		if !entry.Lost && !b.is("does not renew") {
			row.until = b.clock.Now() + lease
		}
	}
	return nil
}

func (b *broken) Complete(_ context.Context, entries []*dedup.Entry) error {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for _, entry := range entries {
		lost := b.complete(entry)
		if !(b.is("keeps old outcomes") && entry.Lost) {
			entry.Lost = lost
		}
	}
	return nil
}

func (b *broken) complete(entry *dedup.Entry) (lost bool) {
	now, held := b.clock.Now(), b.live(entry)
	switch {
	case held == nil && b.is("completes what was not claimed"):
		held = &row{digest: entry.Digest, token: entry.Token}
		b.states[b.key(entry)] = held
	case held == nil:
		return true
	case held.marked && b.is("loses a repeated completion"):
		return true
	case held.marked:
		return held.token != entry.Token
	case b.is("ignores the token on complete"):
		held.token = entry.Token
	case !b.owns(held, entry):
		return true
	case b.is("cannot complete an expired lease") && held.until <= now:
		return true
	}
	if b.is("forgets on completion") {
		delete(b.states, b.key(entry))
		return false
	}
	held.marked, held.until = true, now+b.window
	if b.is("halves the window") {
		held.until = now + b.window/2
	}
	if b.is("counts the window from the claim") {
		held.until = held.claimed + b.window
	}
	return false
}

func (b *broken) Release(_ context.Context, entries []*dedup.Entry) error {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for _, entry := range entries {
		row := b.live(entry)
		switch {
		case row == nil:
			if b.is("refuses a second release") {
				return fmt.Errorf("release %s: no such lease", entry.ID)
			}
		case b.is("does not release"):
		case b.is("marks on release") && !row.marked && b.owns(row, entry):
			row.marked, row.until = true, b.clock.Now()+b.window
		case b.is("releases marks") && row.marked,
			b.is("ignores the token on release") && !row.marked,
			b.owns(row, entry) && !row.marked:
			delete(b.states, b.key(entry))
		}
	}
	return nil
}

func (b *broken) Close() error { return nil }
