// Package sqldb opens the databases that Hapax keeps its inbox and outbox in,
// with the settings its guarantees rest on.
//
// A guarantee that rests on a commit is as good as that commit's durability. So
// SQLite is opened in WAL mode with synchronous=FULL: a committed transaction
// survives the death of the process and of the machine. synchronous=NORMAL
// survives the death of the process, and may lose the last transactions when the
// machine loses power; it is several times faster on slow disks.
//
// PostgreSQL (pgx) and MySQL or MariaDB (go-sql-driver/mysql) are as durable as
// their servers are configured to be: fsync and synchronous_commit there,
// innodb_flush_log_at_trx_commit and sync_binlog here. The drivers are imported
// in this package alone; the others speak database/sql, and ask here what an
// error means ([Retryable], [IsUnique], [IsMissing], [IsLost]).
//
// DSNs are never printed, because they carry passwords; names of tables are
// validated and quoted ([Table]).
package sqldb
