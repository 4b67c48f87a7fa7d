// Package kafka is the broker on Apache Kafka, from 2.5 on. Each consumer commits
// its outputs, the offsets of what it consumed and the IDs of what it processed in
// one Kafka transaction; the strategy "transaction" of the rules table rests on it.
//
// # A message's way
//
//	fetch ─► flow ─► handler ─► claim.Commit ─► transactor ─► one transaction:
//	         in order per key,                  outputs, at once as they come
//	         many at a time                     processed IDs, by partition
//	                                            offsets, in the member's name
//
// A consumer has two clients. One is the member of the group, and knows nothing of
// transactions; the other is a transactional producer, which can be thrown away and
// made anew (that fences the one before) without leaving the group.
//
// A transaction closes at MaxRecords, at MaxTime, or when nothing else is being
// handled. As soon as its outputs have reached the brokers a message is acked, so
// that its lane and its place in the window do not wait for the transaction; Commit
// returns when the transaction has ended. When it aborts, its items join the next
// one: handlers do not run again, and nothing is read again. What fails by its own
// fault (an output that is too large) fails alone.
//
// # Why nothing takes effect twice
//
// The committed offset is the end of the contiguous run of settled messages. What
// was committed above it is in the log of processed IDs, so its redelivery is a
// duplicate. That log is a topic with as many partitions as the input, and is kept
// for the window. A new owner of a partition reads it before it claims anything.
//
// A consumer that the group has forgotten begins anew, even if it is given the same
// partitions again: they may have been another's in between.
//
// Three things make that reading complete:
//
//   - every transaction commits offsets, in the name of the member and its
//     generation (KIP-447), even when there is none to move: it is this commit that
//     the group refuses to a member that was silent for too long;
//   - the IDs are written before the offsets are committed: what an owner of before
//     may still commit is in the log when the new owner looks for its end;
//   - reading goes to the end of what is written, and so waits for transactions
//     that are open.
//
// A commit whose answer is lost is decided by a new producer of the same
// transactional.id, and looked up: the record of IDs is readable, or it is not.
//
// # What it costs
//
// A processed ID takes 20 bytes in the log and 25 to 36 in memory (idTable). A
// window that needs more than MaxIDMemory is an error; nothing is forgotten early.
//
// # What it asks for
//
// Copies of an event have to meet on one partition. This package's publisher puts
// events without a key where their event ID says, and those with one where Java's
// clients put it. Other producers must have a partitioner that does as much, and a
// topic that is given more partitions does not recognise copies from before.
//
// A topic that is deleted and made anew is taken up. Stop its consumers first all
// the same: one that still handles messages of the old topic may commit their
// offsets on the new one, which is then consumed from there. Brokers before 3.1 do not
// tell consumers that it is another one: that shows only while it has fewer messages than
// the consumer had read of the old one.
//
// The protocol of a group (ServerSideGroups) is changed while all of its consumers are
// stopped. A broker that converts a group in the middle of a rebalance gives partitions
// away whose owner has not handed them over, and takes both owners' commits.
//
// Attempts are counted by a consumer for itself: a message that kills its consumer
// is not given up after MaxDeliveries, because Kafka has no place to count.
package kafka
