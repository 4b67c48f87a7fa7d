package ledgertest

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hapax-go/hapax/dedup"
)

// Options are what a check asks of the store it is given.
type Options struct {
	// Window is how long marks last.
	Window time.Duration
}

// Harness is a store opened for one check. Whoever opens it closes it, with
// t.Cleanup.
type Harness struct {
	// Ledger is the store, empty or at least without the check's IDs, which are
	// new on every run.
	Ledger dedup.Ledger
	// Peer opens the same store once more, as another process would: over its
	// own connection. Nil: the store lives in one process.
	Peer func() dedup.Ledger
	// Reopen closes Ledger and opens it again from what was stored. Nil: the
	// store does not outlive its process.
	Reopen func() dedup.Ledger
	// Advance sets the store's clock, and its peers', forward. Nil: the store
	// reads a clock of its own, and the suite waits.
	Advance func(time.Duration)
	// Slack is how much longer than the window a mark may last, for stores that
	// expire marks in bulk. A mark never lasts shorter.
	Slack time.Duration
}

// T is what a check needs of *testing.T.
type T interface {
	rapid.TB
	Context() context.Context
}

// Run runs every check against stores that open makes.
func Run(t *testing.T, open func(t *testing.T, options Options) Harness) {
	for _, check := range checks() {
		t.Run(check.name, func(t *testing.T) {
			check.run(t, open(t, Options{Window: check.window}))
		})
	}
}

const (
	// long never runs out during a check, short does.
	longWindow  = 24 * time.Hour
	longLease   = time.Hour
	shortWindow = time.Second
	shortLease  = 200 * time.Millisecond
)

type check struct {
	name   string
	window time.Duration
	body   func(*store)
}

func checks() []check {
	var all []check
	for _, topic := range [][]check{
		verdicts, fencing, leases, releases, conflicts, windows, retries, repeats,
		batches, copies, identities, durability, peers, property,
	} {
		all = append(all, topic...)
	}
	return all
}

// maxAttempts bounds how often a check starts again on a slow machine.
const maxAttempts = 5

func (c check) run(t T, harness Harness) {
	t.Helper()
	for range maxAttempts {
		if !tooSlow(func() { c.body(newStore(t, harness, c.window)) }) {
			return
		}
		t.Logf("the machine was too slow for this check: starting it again")
	}
	t.Fatalf("the machine was too slow for this check %d times in a row: free it and run again", maxAttempts)
}

// slow is thrown by a check that found itself later than it needed to be.
type slow struct{}

func tooSlow(body func()) (was bool) {
	defer func() {
		if thrown := recover(); thrown != nil {
			if _, was = thrown.(slow); !was {
				panic(thrown)
			}
		}
	}()
	body()
	return false
}
