package dedup

import (
	"context"
	"math"
	"math/rand/v2"
	"time"
)

// Ledger remembers which events were processed and who is processing one now.
// Stores implement it; ledgertest proves them. Every method takes many entries,
// because a round trip a batch is what makes a remote ledger fast; each entry's
// outcome is written into the entry. An error means that no outcome is known
// for any entry of the call: some may have been applied.
//
// An ID is in one of three states:
//
//	          Claim                    Complete
//	absent ───────────► leased ─────────────────► marked ──(window over)──► absent
//	   ▲                  │  ▲
//	   └──── Release ─────┘  └─ Claim by another token after the lease ran out
//
// Stores judge lease expiry by one clock, their own where they have one, never
// by comparing clocks of two workers.
type Ledger interface {
	// Claim sets each entry's Verdict. Fresh leases the ID to the entry's Token
	// for the given time. Of an ID that occurs twice in one call the first entry
	// can be Fresh and the rest are InFlight (or Conflict), even under one token.
	// A lease that ran out is taken over whatever its digest was. A claim by the token that already
	// holds the lease is Fresh: it is the retry of a call whose answer was lost.
	Claim(ctx context.Context, lease time.Duration, entries []*Entry) error

	// Renew extends leases by the given time from now; sets Lost on an entry
	// whose token no longer holds its lease, one that was completed included. A
	// lease that ran out renews as long as nobody took it over.
	Renew(ctx context.Context, lease time.Duration, entries []*Entry) error

	// Complete turns leases into marks that last for the ledger's window, and
	// sets Lost on an entry whose token no longer holds its lease. An entry
	// that the same token has completed before is not Lost (retry of a call
	// whose answer was lost). An expired lease that nobody took over completes.
	Complete(ctx context.Context, entries []*Entry) error

	// Release drops leases held by the entries' tokens. It never touches a mark
	// or somebody else's lease.
	Release(ctx context.Context, entries []*Entry) error

	// Close releases the store's resources.
	Close() error
}

// Expecter is a Ledger, or a Strategy, that can use the time between knowing an
// event's ID and claiming it.
type Expecter interface {
	// Expect says that an ID will probably be claimed soon. It is a hint: it
	// promises nothing, changes nothing, and returns at once.
	Expect(id ID)
}

// Resident is a Ledger in the memory of its claimants. It ends with them: no worker that
// died or was stopped can leave a lease behind in it, and every claim is ended by its
// goroutine. So it is asked for leases without an end, which need no heartbeat.
type Resident interface {
	Ledger
	Resident()
}

// Forever is a lease without an end.
const Forever time.Duration = math.MaxInt64

// NextToken draws a fencing token at random: two claims of one event meet with
// probability 2⁻⁶². (A counter would be a cache line that all processors write.)
// The top bit is clear, because SQL integers are signed; the next is set, so that no
// token is 0.
func NextToken() uint64 { return rand.Uint64()>>2 | 1<<62 }
