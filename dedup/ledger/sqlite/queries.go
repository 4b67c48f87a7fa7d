package sqlite

import "strings"

func schema(table string) string {
	return strings.ReplaceAll(`
CREATE TABLE IF NOT EXISTS {table} (
	seq       INTEGER PRIMARY KEY,
	id        BLOB NOT NULL UNIQUE,
	digest    BLOB NOT NULL,
	token     BLOB NOT NULL,
	until     INTEGER NOT NULL,
	marked_at INTEGER NOT NULL,
	event_id  TEXT NOT NULL,
	service   TEXT NOT NULL,
	handler   TEXT NOT NULL,
	topic     TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS {table}_leases (
	id     BLOB PRIMARY KEY,
	digest BLOB NOT NULL,
	token  BLOB NOT NULL,
	until  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS {table}_leases_until ON {table}_leases (until);
`, "{table}", table)
}

// queries are the statements of a table. Those that take many entries get them
// packed into one blob (see pack) and their number: on a table that fits the
// cache that marks a third more events a second than a prepared insert a row. On
// a large one, writing pages is all that counts.
type queries struct {
	lock, find, putMarks, putLeases, renew, dropLeases, expireMarks, expireLeases string
}

func (q queries) all() []string {
	return []string{q.lock, q.find, q.putMarks, q.putLeases, q.renew, q.dropLeases, q.expireMarks, q.expireLeases}
}

func newQueries(table string) queries {
	// n numbers the entries of the blob ?1; {id} and so on cut values from it.
	const n = `WITH RECURSIVE n(i) AS (SELECT 0 WHERE ?2 > 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?2) `
	expand := strings.NewReplacer(
		"{marks}", table, "{leases}", table+"_leases",
		"{id}", "substr(?1, i * 40 + 1, 16)",
		"{digest}", "substr(?1, i * 40 + 17, 16)",
		"{token}", "substr(?1, i * 40 + 33, 8)",
	).Replace
	return queries{
		// Deletes nothing, and takes the write lock.
		lock: expand(`DELETE FROM {leases} WHERE id = x''`),
		find: expand(n + `
			SELECT i, 1, digest, token, until FROM n CROSS JOIN {marks} ON id = {id}
			UNION ALL
			SELECT i, 0, digest, token, until FROM n CROSS JOIN {leases} ON id = {id}`),
		// ?2 is a JSON array of event IDs, which numbers the entries as well.
		// REPLACE removes an expired mark of the same ID; find has shown that
		// there is none that lives.
		putMarks: expand(`
			INSERT OR REPLACE INTO {marks} (id, digest, token, event_id, until, marked_at, service, handler, topic)
			SELECT {id}, {digest}, {token}, text, ?3, ?4, ?5, ?6, ?7
			FROM (SELECT key AS i, value AS text FROM json_each(?2))`),
		putLeases: expand(n + `
			INSERT OR REPLACE INTO {leases} (id, digest, token, until)
			SELECT {id}, {digest}, {token}, ?3 FROM n`),
		renew: expand(n + `
			UPDATE {leases} SET until = ?3 WHERE (id, token) IN (SELECT {id}, {token} FROM n)`),
		dropLeases: expand(n + `
			DELETE FROM {leases} WHERE (id, token) IN (SELECT {id}, {token} FROM n)`),
		expireMarks: expand(`
			DELETE FROM {marks} WHERE seq IN (
				SELECT seq FROM (SELECT seq, until FROM {marks} ORDER BY seq LIMIT ?2) WHERE until <= ?1)`),
		expireLeases: expand(`
			DELETE FROM {leases} WHERE id IN (
				SELECT id FROM {leases} WHERE until <= ?1 ORDER BY until LIMIT ?2)`),
	}
}
