package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// Check implements adapters.Broker.
func (b *Broker) Check(ctx context.Context) []adapters.Finding {
	var findings []adapters.Finding
	if b.config.Synchronous == sqldb.Off {
		findings = append(findings, adapters.Finding{
			Name:    "sqlite-synchronous",
			Problem: fmt.Sprintf("%s is open with synchronous=off: a power cut can lose commits and damage the file", b.config.Path),
			Fix:     "set sqlite.synchronous to full, or to normal if losing the last commits to a power cut is acceptable",
		})
	}
	// A write that changes nothing: the file and its folder can be written to.
	err := b.group.Do(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE hapax_schema SET version = version WHERE component = 'broker'`)
		return err
	})
	if err != nil {
		findings = append(findings, adapters.Finding{
			Name: "sqlite-writable", Fatal: true,
			Problem: fmt.Sprintf("%s cannot be written to: %v", b.config.Path, err),
			Fix:     "give this user write permission on the file and its folder, and check the free space",
		})
	}
	var mode string
	if err := b.db.QueryRowContext(ctx, `PRAGMA journal_mode`).Scan(&mode); err == nil && mode != "wal" {
		findings = append(findings, adapters.Finding{
			Name: "sqlite-wal", Fatal: true,
			Problem: fmt.Sprintf("%s has journal mode %q, expected wal: the file system does not offer shared memory, as network file systems do not", b.config.Path, mode),
			Fix:     "put the file on a local disk; a file on a network file system can be damaged by two machines",
		})
	}
	return findings
}
