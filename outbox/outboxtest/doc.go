// Package outboxtest checks an outbox and its relay on a database. One suite runs
// against every database that package outbox knows:
//
//	outboxtest.Run(t, func(t *testing.T) outboxtest.Harness { … })
//
// The broker in it is a recorder that keeps every message, copies included, in the
// order of their arrival: it never removes what it should show. Copies are
// counted, and order is judged, on the first copy of each event ID, which is what
// a consumer behind a ledger sees.
//
// Kills strikes at relays in processes of their own. The test program must have
// ChildMain with Roles in its TestMain.
package outboxtest
