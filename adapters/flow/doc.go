// Package flow keeps many deliveries of a subscription in flight at once, in
// order per key, behind the one channel that Watermill's Router reads.
//
// An adapter receives from its broker, wraps each message as a [Delivery] and
// offers it. The flow promises:
//
//   - at most Config.Window offered deliveries are unfinished at any time;
//   - deliveries of equal lanes are handed out one at a time, in the order
//     offered; a nacked one keeps its place until it is acked or given up;
//   - every delivery that Offer took ends in exactly one of Acked, Nacked (given
//     up) and Abandoned, and the last of them returns before Drain does.
//
// A delivery's life:
//
//	         lane is busy            lane is free
//	Offer ───────────────► waiting ───────────────► handed out ──ack──► Acked
//	                          │                       ▲     │
//	                          │        after the delay│     ├─nack──► Nacked, given up
//	                          │                       └─────┤
//	                          │                  Nacked, again
//	                        Drain                           │ Drain's ctx ends, nobody had
//	                          │                             │ read it, or it was lost
//	                          └─────────► Abandoned ◄───────┘
//
// # How it finds out
//
// A message says that it was acked only by closing a channel, so somebody has to
// wait on it. A goroutine for every message costs as much as a third of the
// Router; so one tracker waits on them all, oldest first: by the time it reaches
// a message, that message is usually done. While the oldest is not, the tracker looks
// at those behind it every few milliseconds. What would make others wait gets a
// goroutine of its own instead: a message that others of its lane wait for, and one
// that is slow, because those behind it have ended at two looks in a row. That handlers
// take long makes nobody slow: they all do.
//
// [Watermark] is the companion for brokers that acknowledge "everything up to
// here".
package flow
