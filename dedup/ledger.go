package dedup

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"sync/atomic"
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

var tokens atomic.Uint64

func init() {
	var seed [8]byte
	_, _ = rand.Read(seed[:]) // crypto/rand.Read never fails (Go 1.24)
	tokens.Store(binary.LittleEndian.Uint64(seed[:]))
}

// NextToken draws a fencing token: a random start per process, then counting,
// so that tokens of two processes meet with probability below 2⁻⁴⁰ even after a
// million claims each. The top bit is clear, because SQL integers are signed.
func NextToken() uint64 { return tokens.Add(1)&^(1<<63) | 1<<62 }
