// Package sqldb opens the databases that Hapax keeps its inbox and outbox in,
// with the settings its guarantees rest on.
//
// A guarantee that rests on a commit is as good as that commit's durability. So
// SQLite is opened in WAL mode with synchronous=FULL: a committed transaction
// survives the death of the process and of the machine. synchronous=NORMAL
// survives the death of the process, and may lose the last transactions when the
// machine loses power; it is several times faster on slow disks.
//
// Only SQLite is known today. A DSN of another scheme is refused by name; DSNs
// are never printed, because they carry passwords.
package sqldb
