// Package handlers stands between plain functions and Watermill handlers.
//
// A handler is a function over a type of your own. Adapt recognises its form,
// decodes each message for it and encodes what it returns:
//
//	func PlaceOrder(ctx context.Context, o Order) (Shipment, error)
//
// nil is never an output: a handler that returns a nil pointer, slice or map
// makes none, and one that returns a slice makes one for each element that is
// not nil. A struct is always an output, also when all its fields are zero. Any
// number of further outputs, with a topic, a key and metadata each, go through
// Emit. Nothing is sent while the handler runs: outputs are collected, and
// published inside the commit by package dedup. A handler that fails has sent
// nothing.
//
// # What an error means
//
// The error a handler returns steers what becomes of the event:
//
//	nil                      processed: outputs and mark commit, then the ack
//	Skip(reason)             processed, without outputs
//	any other error          run again here, with backoff (Retry)
//	   … too often           dead letter
//	Permanent(err)           dead letter, now
//	RetryAfter(d, err)       back to the broker, not before d
//
// Other errors come from around the handler. A payload that cannot be decoded, a
// missing event ID, an ID that was used with another payload, an output that can
// never be published: dead letter, now. An event that another worker is
// processing goes back to the broker. A claim or a commit that fails, because a
// store or the broker is away, is retried like the handler, and then goes back to
// the broker: an outage makes no dead letters. Rows of the handler that only COMMIT
// refuses (a deferred constraint) count as its own error.
//
// Classify tells these apart, through any wrapping; where errors that steer wrap
// each other, the outermost decides. An error that is joined with a Skip decides, not
// the Skip.
//
// # The chain
//
// Middlewares nest in one order, outermost first:
//
//	DeadLetter → Retry → dedup → Recover → Timeout → handler
//
// Retry is outside of dedup, so that each attempt claims the event anew and
// nothing of a failed attempt remains. DeadLetter is outside of Retry, because
// only there it is known that no attempt is left. Recover is inside, so that a
// panic is an error to all of them.
//
// # Running twice
//
// A handler may run again, and must then make the same outputs in the same
// order: output i of an event has an ID derived from i, by which the next
// consumer knows a copy. Emit from several goroutines at once is safe, but gives
// no such order: set EventID there. For effects outside of any transaction,
// IdempotencyKey is the same on every run.
package handlers
