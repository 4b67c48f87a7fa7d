// Package acceptance has no code: its tests judge the SQS adapter, with a ledger, by
// processes that are killed and frozen, networks that lose answers and connections, and
// servers that restart, on both kinds of queues.
//
// A run is a chain of two stages. Consumer processes read one queue and make an output
// of each event; they are what the faults strike. The test reads their outputs: what
// its handler makes of them are the effects, one for each event or the run is guilty.
// Every scenario has a control run, in which nobody deduplicates, and which must be
// found guilty.
//
//	producer ──► in ──► consumers (struck) ──► out ──► the test's own stage: effects
//
// HAPAX_SOAK=1 asks for the full sizes.
package acceptance
