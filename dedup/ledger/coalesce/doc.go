// Package coalesce joins the calls of concurrent handlers into few calls of a
// remote ledger.
//
// While one round trip is in flight, the calls that arrive gather; when it
// returns, they leave together in the next one. There is no timer: a lone call
// leaves at once, and the busier the service is, the larger its batches grow. Before a
// batch leaves, handlers that are ready to run have their turn, so that what a broker
// delivered together is one batch and not one call and the rest.
//
//	calls:   a   b c d     e f
//	store:   [a ──────][b c d ──][e f ──]
//
// Claim, Complete, Renew and Release each have a lane of their own, so that a
// slow batch of one kind does not hold up the others. A lane runs on one
// goroutine while it has work and on none when it is idle.
//
// # Callers that leave
//
// A caller whose context ends stops waiting and gets the context's error. If its
// call has not left yet it never will; if it has, the store may still apply it,
// which is what a lost answer looks like: the caller may ask again with the same
// token, give the lease back, or let it run out: a Release waits until nothing of its
// tokens is on its way any more. Since the caller may reuse its entries at
// once, a batch is made of copies, and outcomes are written back only to callers
// that still wait: both sides settle which it is with one atomic step.
//
// So a batch belongs to no caller, and its context is none of theirs: it carries
// no values, and ends after Config.Timeout only.
package coalesce
