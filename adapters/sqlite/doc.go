// Package sqlite is the embedded broker: topics, consumer groups, the marks of
// processed events and, if it likes, the service's own tables, in one durable
// file. It needs no server. Several processes of one machine may use the file at
// once. It is made for development, tests, demos and small services.
//
// It promises:
//
//   - a message is stored when Publish has returned, and what one call publishes
//     is stored together or not at all;
//   - every group gets every message at least once, from the topic's first stored
//     message on; its members share them;
//   - messages with equal keys are handed out one at a time and in order, whoever
//     of the members gets them; copies of one event without a key, one at a time;
//   - with the strategy "inbox", mark, outputs, the handler's own SQL (inbox.Tx)
//     and the acknowledgement are one transaction.
//
// # A message's way
//
//	published ──(cursor moves past it)──► pending, owned ──ack──► gone from pending
//	                                       │   ▲      ▲
//	               its lane has an owner:  │   │      │ adopted by a member
//	               it becomes that one's   │   │      │
//	               mail                    ▼   │      │
//	                                      mail─┘    free ◄── owner left, or its lease ran out
//
// A group has a cursor per topic. A member claims new messages by moving it, and
// leaves a pending row for each until it is acknowledged. That is right because
// SQLite has one writer; see runFetches.
//
// # Who is alive
//
// Liveness is a consumer's, not a message's: one row, one heartbeat. When its lease
// has run out, any member frees what it held. Each pending row names its owner, and
// every acknowledgement, and every commit, deletes the row by that name. So one
// that was stopped and wakes up either still owns its rows and goes on, or deletes
// nothing, and then commits nothing (I5).
//
// A redelivery after a nack comes from the member's memory, in its lane. Only how
// often it was tried is written to the file.
//
// # What it costs
//
// All writing goes through one inbox.Group per process: publishes, claims, commits
// and acknowledgements of everybody share its transactions. With
// synchronous=full, the default, each waits for the disk once.
//
// Whoever holds SQLite's write lock holds up everybody who wants to write, in any
// process: a stopped process in the middle of its transaction, a handler that is
// slow between inbox.Tx and its return, a long transaction of the service's own.
// Closing waits for it for a minute only: others then take over when the lease has
// run out.
// The file does not shrink; the room of removed messages is used again. It must be
// on a local disk.
package sqlite
