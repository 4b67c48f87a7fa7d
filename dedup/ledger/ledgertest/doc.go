// Package ledgertest is the conformance suite of dedup.Ledger. A store that
// passes keeps the promises the middleware is built on; each check names the
// invariant it guards (I1–I8).
//
//	func TestConformance(t *testing.T) {
//		ledgertest.Run(t, func(t *testing.T, options ledgertest.Options) ledgertest.Harness {
//			clock := ...
//			ledger := memory.New(memory.Config{Window: options.Window, Now: clock.Now})
//			return ledgertest.Harness{Ledger: ledger, Advance: clock.Advance}
//		})
//	}
//
// # Time
//
// Leases and windows run out by the store's clock. A store whose clock can be
// set offers Harness.Advance, and the suite takes no time. A store on a server
// leaves it nil: the same checks then wait in real time, poll for what must
// happen in the end, and start again when the machine was too slow to see what
// must hold for a while.
//
// # What the suite itself is proved by
//
// The package's own test runs every check against ledgers with one fault each
// (marks on claim, ignores the token, compares eight bytes, ...): every fault is
// caught, and every check catches one.
package ledgertest
