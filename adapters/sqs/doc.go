// Package sqs is the adapter for Amazon SQS, on aws-sdk-go-v2. It reads what the
// official watermill-aws adapter writes, and is read by it.
//
// # Queues
//
// A topic is one queue. Letters, digits, "-" and single "_" of a topic are those of
// the queue's name; a dot becomes "__"; every other byte, and a "_" that could be
// mistaken, becomes "_x" and two hexadecimal digits: "orders.created" is the queue
// orders__created. No two topics share a name, and names over 80 characters are
// refused. QueuePrefix goes in front.
//
// A topic that ends in ".fifo" is a FIFO queue, and so are its dead letters:
// "orders.fifo.dead" is orders__fifo__dead.fifo. With Config.FIFO every topic is,
// and the suffix is the adapter's to append. A dead-letter topic with a name of its
// own is a FIFO queue when that name says so.
//
// SQS has no consumer groups: a queue gives each message to one consumer. As with
// the official adapter, all groups of a topic would share its queue and each miss
// what the others get, so a second group in one process is refused. A queue for each
// group would need a publisher that knows them all; that is what SNS is for.
//
// # What is sent
//
// The payload is the body; UUID and metadata are String attributes. What SQS does
// not take is packed: metadata beyond ten attributes, or with empty values or
// characters that SQS refuses, travels in the attribute hapax_metadata, encoded like
// a URL's query; a payload that is empty or no text travels as base64, as
// hapax_encoding says; with Config.Compress, compressed. Only those messages look
// different to other programs.
//
// To FIFO queues the MessageDeduplicationId is the event's ID and the MessageGroupId
// its key, or the event ID where there is none; SHA-256 stands for IDs that are over
// 128 characters or not ASCII. What comes back is taken for the broker's own ID of the
// event only where another producer chose it. Messages of one group are sent one at a
// time, because the entries of a batch can fail singly and must not overtake each other.
//
// # A message's life here
//
//	                                   ack          deleted
//	receive ──► turn ──► handed out ────────► delete ───────► gone
//	  ▲          │         │    ▲                │ refused, or not answered in time:
//	  │          │    nack │    │ delay          ▼ it comes again, as a duplicate
//	  │          │         ├────┘
//	  │          │         ├─ too often ──► dead-letter topic ──► delete
//	  │  close   ▼ close   ▼
//	  └──── given back: visible at once, or when its delay is over
//
// Everything held is hidden from other consumers by a heartbeat, up to the 12 hours
// that SQS allows; then the handler's context ends with a clear cause. A message
// whose heartbeat is refused is not ours any more: its context ends, and it is not
// handed out again. Redelivery after a nack is from memory, so a FIFO group stays
// locked and in order. A standard queue takes back a message that is to wait for
// longer than its visibility timeout; its attempts are counted by SQS from then on.
//
// In a FIFO queue a message has its turn when the one before it in its group is
// deleted, not merely acked; groups do not wait for each other. When a message will
// come again, those received behind it are given back as well. SQS counts receives, but
// those of a message that came behind another do not count against MaxDeliveries. A
// standard queue keeps no order; equal keys do not run at the same time within one consumer.
//
// Sends, deletes and returns of concurrent callers share requests of ten; those that
// are not full wait two milliseconds for more. Entries that fail are tried again by
// themselves, with growing pauses. A receive that met a network error is repeated under
// the same attempt ID, so that a FIFO queue answers with the same messages instead of
// hiding them from everybody.
//
// # Taking effect once
//
// SQS has no transactions, so the strategies dedup-id (FIFO) and consumer (standard)
// are a ledger's: outputs are sent, then the mark is written, then the message is
// deleted. FIFO's own deduplication spares work for five minutes; the ledger decides
// for as long as its window lasts.
//
// Checks looks at the queues before a service starts: that there are any, that their
// redrive policies do not give messages up after one receive, that they do not keep
// messages longer than marks last. Subscribe does so for a queue that nobody asked
// about, refuses the worst and warns of the rest.
package sqs
