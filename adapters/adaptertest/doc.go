// Package adaptertest is the conformance suite of broker adapters: what passes
// [Run] behaves as the framework expects of every broker, whichever it is.
//
// The suite is one function for each promise, a file for each topic. What a broker
// cannot do is skipped by its Capabilities, and the skip prints the reason that
// the broker gives; a capability that is missing without a reason fails. Nothing
// is de-duplicated before it is counted: a message that comes twice where nothing
// failed is a defect, even though every broker here delivers at least once.
//
// Tests wait for conditions, up to Harness.Patience. The exception is waiting for
// something not to happen, where there is nothing to wait for: there, a slow
// machine can only make a defect go unseen, never invent one.
//
// [Watermill] runs Watermill's own suite on the same port.
package adaptertest
