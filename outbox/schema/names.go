package schema

import (
	"fmt"
	"strings"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

// Names are the names of the tables.
type Names struct {
	// Schema is a schema of PostgreSQL or a database of MySQL, created when it is
	// missing. Default "": that of the connection. SQLite has none.
	Schema string
	// Inbox is the table of processed events. Default hapax_inbox.
	Inbox string
	// Outbox is the table of messages to publish. Default hapax_outbox.
	Outbox string
	// Ledger is the table of the ledger. Default hapax_ledger.
	Ledger string
	// Version is the table of the migrations that have run. Default hapax_migrations.
	Version string
}

// WithDefaults fills in the names that are not set.
func (n Names) WithDefaults() Names {
	for name, fallback := range map[*string]string{
		&n.Inbox: "hapax_inbox", &n.Outbox: "hapax_outbox", &n.Ledger: "hapax_ledger", &n.Version: "hapax_migrations",
	} {
		if *name == "" {
			*name = fallback
		}
	}
	return n
}

// maxName leaves room for suffixes within the 63 bytes of an identifier.
const maxName = 48

func (n Names) validate(dialect sqldb.Dialect) error {
	if n.Schema != strings.ToLower(n.Schema) || n.Version != strings.ToLower(n.Version) {
		return fmt.Errorf("schema %q and version table %q: expected lower case", n.Schema, n.Version)
	}
	seen := map[string]bool{}
	for _, name := range []string{n.Inbox, n.Outbox, n.Ledger, n.Version} {
		if err := n.table(name).Validate(dialect); err != nil {
			return err
		}
		if len(name) > maxName {
			return fmt.Errorf("table name %q has %d characters, expected %d at most", name, len(name), maxName)
		}
		if seen[name] {
			return fmt.Errorf("table name %q is used twice: inbox, outbox, ledger and version table need names of their own", name)
		}
		seen[name] = true
	}
	return nil
}

func (n Names) table(name string) sqldb.Table { return sqldb.Table{Schema: n.Schema, Name: name} }

// InboxTable is the inbox with its schema.
func (n Names) InboxTable() sqldb.Table { return n.table(n.WithDefaults().Inbox) }

// OutboxTable is the outbox with its schema.
func (n Names) OutboxTable() sqldb.Table { return n.table(n.WithDefaults().Outbox) }

// LedgerTable is the ledger with its schema.
func (n Names) LedgerTable() sqldb.Table { return n.table(n.WithDefaults().Ledger) }
