// Package bench is hapax bench: throughput and latency of Hapax beside those of
// the raw client and of Watermill alone, with the same handler.
//
// # What makes the figures comparable
//
// All variants of a broker and a case run in one process, in rounds: round one of
// every variant, then round two of every variant, each time in another order.
// Whatever disturbs the machine for a while then disturbs all of them. The first
// round of each is thrown away, the collector runs before the clock starts, and
// medians are reported. Ratios are the result; absolute figures only illustrate.
//
// The process keeps a block of memory alive as ballast, as a service keeps its
// own. Without it the collector would run every few milliseconds, and the variant
// that keeps the most memory would look best, because it makes collections rare.
//
// After every round the counts must be right: each message handled, each output
// published, and by the variants with deduplication exactly once. A wrong count
// ends the benchmark with an error, since the speed of losing messages is of no
// interest.
//
// # Latency
//
// Latency is measured in rounds of their own, paced at half of what the variant
// reached before. It runs from the moment the message was due to be published,
// whether or not the publisher got to it in time, until the message was
// acknowledged; a variant that stalls is charged for everyone who had to wait.
// In variants with a transaction the commit precedes the acknowledgement. In
// those without, the acknowledgement is the signal to the adapter, which then
// carries it out.
//
// # A broker more
//
// A broker is a file here: a function that returns a [Broker], with a [Variant]
// for each row, and a line in [Brokers]. A variant opens a [Lane]; a lane runs
// rounds. Router variants share [startRouter], so that all have the same
// middlewares.
package bench
