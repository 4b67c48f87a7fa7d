// Package memory is a ledger inside one process.
//
// It is for tests, for demos, and for services that run as one process and
// whose broker does not redeliver across a restart: everything is forgotten
// when the process ends. Within the process it keeps every promise of
// dedup.Ledger.
//
// IDs are spread over shards, each with its own lock. A shard keeps leases and
// marks apart: leases are few (what is in flight now) and change all the time,
// marks are many and only ever age. All marks live equally long, so the order
// of marking is the order of expiry: marks are a log, and every Complete takes a few
// due ones off its head. No call ever walks over all marks. One index leads from
// an ID to its lease or its mark.
//
// What a new event costs is above all the one look into the index that the
// processor's caches do not have, so the index is small, Expect has it fetched while
// the payload is read, and everything else a call needs lies close together.
//
// A mark takes 60 to 70 bytes.
package memory
