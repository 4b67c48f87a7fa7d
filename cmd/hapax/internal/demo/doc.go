// Package demo is the Black Friday story: orders are fulfilled and shipped while
// producers retry and consumers are killed, by a plain at-least-once consumer and
// by Hapax, side by side, on the same input.
//
//	producer ──► orders ──► fulfilment ──► shipping.requested ──► shipping ──► a row per shipment
//
// Consumers are child processes of this program, running both stages; kills are
// SIGKILLs, by the progress of the work and at named points between effect and
// acknowledgement. Nothing is counted by the consumers themselves: shipments are
// rows without a unique constraint, outputs are read from the topic by a reader
// that shares no code with the consumers, and the oracle of internal/fault judges
// both after everything has drained.
package demo
