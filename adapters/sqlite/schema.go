package sqlite

import (
	"context"
	"database/sql"
	"fmt"
)

// schemaVersion is the version of the tables below that this code reads and
// writes. It is kept in a table and not in PRAGMA user_version, because the file
// may hold the user's tables too, and that number is then the user's.
const schemaVersion = 1

// A message's position is topic<<40 | its number in the topic. The table is thus
// sorted by topic and needs no index beside it.
//
// A pending row is a message that a group has claimed and not acknowledged. Its
// owner is a registered consumer, or 0: free to be claimed. A lane never has two
// owners, and its free rows come after those with an owner. Rows are sorted by
// lane, because the question asked most is "who has this lane?". The indexes hold
// only rows that somebody has yet to look at: free ones, and mail, which another
// member put into its owner's name.
const schema = `
CREATE TABLE IF NOT EXISTS hapax_topics (
	id   INTEGER PRIMARY KEY,
	name TEXT NOT NULL UNIQUE,
	last INTEGER NOT NULL -- number of the newest message; never goes back
) STRICT;
CREATE TABLE IF NOT EXISTS hapax_messages (
	position INTEGER PRIMARY KEY,
	uuid     TEXT NOT NULL,
	metadata TEXT NOT NULL,
	payload  BLOB NOT NULL,
	created  INTEGER NOT NULL -- unix milliseconds
) STRICT;
CREATE TABLE IF NOT EXISTS hapax_groups (
	id     INTEGER PRIMARY KEY,
	topic  INTEGER NOT NULL,
	name   TEXT NOT NULL,
	cursor INTEGER NOT NULL, -- position of the newest message claimed
	UNIQUE (topic, name)
) STRICT;
CREATE TABLE IF NOT EXISTS hapax_consumers (
	id          INTEGER PRIMARY KEY,
	grp         INTEGER NOT NULL,
	lease_until INTEGER NOT NULL -- unix milliseconds
) STRICT;
CREATE INDEX IF NOT EXISTS hapax_consumers_grp ON hapax_consumers (grp);
CREATE TABLE IF NOT EXISTS hapax_pending (
	grp        INTEGER NOT NULL,
	lane       INTEGER NOT NULL,
	position   INTEGER NOT NULL,
	owner      INTEGER NOT NULL,
	attempts   INTEGER NOT NULL DEFAULT 1, -- how often it was handed out
	mail       INTEGER NOT NULL DEFAULT 0, -- 1: its owner does not know of it yet
	visible_at INTEGER NOT NULL DEFAULT 0, -- unix milliseconds; not claimed before
	PRIMARY KEY (grp, lane, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS hapax_pending_free ON hapax_pending (grp, position) WHERE owner = 0;
CREATE INDEX IF NOT EXISTS hapax_pending_mail ON hapax_pending (owner, position) WHERE mail = 1;
CREATE VIEW IF NOT EXISTS hapax_log AS
	SELECT t.name AS topic, m.position & 0xFFFFFFFFFF AS number, m.uuid, m.metadata, m.payload, m.created
	FROM hapax_topics t JOIN hapax_messages m ON m.position BETWEEN t.id << 40 AND (t.id << 40) + 0xFFFFFFFFFF;
`

const numberBits = 40

// span returns the lowest position of a topic and the highest it can have.
func span(topic int64) (low, high int64) {
	return topic << numberBits, topic<<numberBits | (1<<numberBits - 1)
}

func place(topic string, position int64) string {
	return fmt.Sprintf("%s@%d", topic, position&(1<<numberBits-1))
}

const readVersion = `SELECT coalesce(max(version), 0) FROM hapax_schema WHERE component = 'broker'`

// migrate creates the tables, and refuses a file written by a newer version. It
// writes only where something is missing: a start does not wait for the writer of
// another process, which may be stopped.
func migrate(ctx context.Context, db *sql.DB, path string) error {
	var version int
	if db.QueryRowContext(ctx, readVersion).Scan(&version) == nil && version == schemaVersion {
		return nil
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("prepare %s: %w", path, err)
	}
	defer tx.Rollback() //nolint:errcheck // no-op after Commit
	_, err = tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS hapax_schema (component TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT`)
	if err == nil {
		err = tx.QueryRowContext(ctx, readVersion).Scan(&version)
	}
	switch {
	case err != nil:
		return fmt.Errorf("prepare %s: %w", path, err)
	case version > schemaVersion:
		return fmt.Errorf("prepare %s: its tables have version %d, this program knows up to %d: update the program, or use another file", path, version, schemaVersion)
	case version == schemaVersion:
		return nil
	}
	if _, err := tx.ExecContext(ctx, schema); err != nil {
		return fmt.Errorf("create tables in %s: %w", path, err)
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO hapax_schema VALUES ('broker', ?)`, schemaVersion); err != nil {
		return fmt.Errorf("create tables in %s: %w", path, err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("create tables in %s: %w", path, err)
	}
	return nil
}
