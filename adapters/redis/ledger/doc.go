// Package ledger is the dedup.Ledger on Redis, for brokers whose strategy keeps its
// marks beside them: RabbitMQ, SQS.
//
// # Layout
//
// An ID has one record, a field of a hash. There is a hash for each slice of time, an
// eighth of the window. The record of an ID being processed lies in the slice of its
// deadline: the claim's token (8 bytes), 16 bits of the digest, and the deadline. That of
// a processed one lies in the slice in which it was completed: half of the token, so that
// completing again after a lost answer is told from completing by somebody else, and the
// 16 bits. The directory, one string, names the slices there are. A claim looks into all
// of them; a slice that is over goes as a whole, with UNLINK, so nothing is scanned, and
// leases whose events never came again go with it. A slice has its length in its name, so
// the window may be changed: what was marked before lasts as long as it was to.
//
// This is the opposite choice of the marks package, which the adapter's own strategy
// uses: 72 bytes an ID instead of 24, for less of the server's time. There the marks are
// a part of a script that moves the messages too. Here they are all that Redis does,
// beside a broker that needs the processors.
//
// Every call is one script, so a look and the write after it are one step. Time is
// the server's. In a cluster IDs are divided into 64 shards, each on one node, and a
// call is a script for each shard it touches.
//
// What a fail-over forgets: Redis replicates asynchronously. A mark that the old
// master had and the new one has not is forgotten, and its event may take effect
// once more; min-replicas-to-write bounds how many.
package ledger
