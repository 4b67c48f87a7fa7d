// Package ledger is the dedup.Ledger on Redis, for brokers whose strategy keeps its
// marks beside them: RabbitMQ, SQS.
//
// An ID being processed is a field of a hash, with the claim's token; a processed one is a
// mark (see the marks package), about 28 bytes: a ledger's marks also remember half
// of the token, so that completing again after a lost answer is told from completing
// by somebody else.
//
// Every call is one script, so a look and the write after it are one step. Time is
// the server's. In a cluster IDs are divided into 64 shards, each on one node, and a
// call is a script for each shard it touches.
//
// What a fail-over forgets: Redis replicates asynchronously. A mark that the old
// master had and the new one has not is forgotten, and its event may take effect
// once more; min-replicas-to-write bounds how many.
package ledger
