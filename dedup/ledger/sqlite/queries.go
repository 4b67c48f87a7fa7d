package sqlite

import "strings"

func schema(table string) string {
	return strings.ReplaceAll(`
CREATE TABLE IF NOT EXISTS {table} (
	generation INTEGER NOT NULL,
	id         BLOB NOT NULL,
	digest     BLOB NOT NULL,
	token      BLOB NOT NULL,
	until      INTEGER NOT NULL,
	PRIMARY KEY (generation, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS {table}_generations (
	number  INTEGER PRIMARY KEY,
	marks   INTEGER NOT NULL,
	started INTEGER NOT NULL,
	until   INTEGER NOT NULL,
	filter  BLOB
) STRICT;
CREATE INDEX IF NOT EXISTS {table}_generations_sealed ON {table}_generations (until) WHERE filter IS NOT NULL;
INSERT INTO {table}_generations (number, marks, started, until)
	SELECT 1, 0, 0, 0 WHERE NOT EXISTS (SELECT 1 FROM {table}_generations);
CREATE TABLE IF NOT EXISTS {table}_log (
	seq       INTEGER PRIMARY KEY,
	id        BLOB NOT NULL,
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
	lock, find, findOlder, putMarks, putLog, putLeases, renew, dropLeases string
	count, ids, seal, open, sealed, filter                                string
	oldest, expireMarks, dropGeneration, expireLog, expireLeases          string
}

func (q queries) all() []string {
	return []string{
		q.lock, q.find, q.findOlder, q.putMarks, q.putLog, q.putLeases, q.renew, q.dropLeases,
		q.count, q.ids, q.seal, q.open, q.sealed, q.filter,
		q.oldest, q.expireMarks, q.dropGeneration, q.expireLog, q.expireLeases,
	}
}

func newQueries(table string) queries {
	// n numbers the entries of the blob ?1; {id} and so on cut values from it.
	const n = `WITH RECURSIVE n(i) AS (SELECT 0 WHERE ?2 > 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?2) `
	expand := strings.NewReplacer(
		"{marks}", table, "{leases}", table+"_leases", "{log}", table+"_log", "{generations}", table+"_generations",
		"{id}", "substr(?1, i * 40 + 1, 16)",
		"{digest}", "substr(?1, i * 40 + 17, 16)",
		"{token}", "substr(?1, i * 40 + 33, 8)",
	).Replace
	return queries{
		// Deletes nothing, and takes the write lock.
		lock: expand(`DELETE FROM {leases} WHERE id = x''`),
		// The first row is the generation in use: the newest.
		find: expand(n + `
			SELECT -1, 2, x'', x'', number, marks, started, until FROM (SELECT * FROM {generations} ORDER BY number DESC LIMIT 1)
			UNION ALL
			SELECT i, 1, digest, token, until, 0, 0, 0 FROM n CROSS JOIN {marks}
				ON generation = (SELECT max(number) FROM {generations}) AND id = {id}
			UNION ALL
			SELECT i, 0, digest, token, until, 0, 0, 0 FROM n CROSS JOIN {leases} ON id = {id}`),
		// ?2 is a JSON array of entry, generation, entry, generation…
		findOlder: expand(`
			SELECT i, digest, token, until
			FROM (SELECT value AS i, json_extract(?2, '$[' || (key + 1) || ']') AS g FROM json_each(?2) WHERE key % 2 = 0)
			CROSS JOIN {marks} ON generation = g AND id = {id}`),
		// REPLACE removes an expired mark of the same ID; find has shown that
		// there is none that lives.
		putMarks: expand(n + `
			INSERT OR REPLACE INTO {marks} (generation, id, digest, token, until)
			SELECT ?4, {id}, {digest}, {token}, ?3 FROM n`),
		// ?2 is a JSON array of event IDs, which numbers the entries as well.
		putLog: expand(`
			INSERT INTO {log} (id, event_id, until, marked_at, service, handler, topic)
			SELECT {id}, text, ?3, ?4, ?5, ?6, ?7
			FROM (SELECT key AS i, value AS text FROM json_each(?2))`),
		putLeases: expand(n + `
			INSERT OR REPLACE INTO {leases} (id, digest, token, until)
			SELECT {id}, {digest}, {token}, ?3 FROM n`),
		renew: expand(n + `
			UPDATE {leases} SET until = ?3 WHERE (id, token) IN (SELECT {id}, {token} FROM n)`),
		dropLeases: expand(n + `
			DELETE FROM {leases} WHERE (id, token) IN (SELECT {id}, {token} FROM n)`),
		count:  expand(`UPDATE {generations} SET marks = marks + ?1, until = max(until, ?2) WHERE number = ?3`),
		ids:    expand(`SELECT id FROM {marks} WHERE generation = ?1`),
		seal:   expand(`UPDATE {generations} SET filter = ?1 WHERE number = ?2`),
		open:   expand(`INSERT INTO {generations} (number, marks, started, until) VALUES (?1, 0, ?2, 0)`),
		sealed: expand(`SELECT number FROM {generations} WHERE number < ?1 AND until > ?2`),
		filter: expand(`SELECT filter FROM {generations} WHERE number = ?1`),
		// Those whose marks last for a longer window are not looked at.
		oldest: expand(`
			SELECT * FROM (
				SELECT number, marks, until, false FROM {generations}
				WHERE filter IS NOT NULL AND until <= ?1 ORDER BY until LIMIT 1)
			UNION ALL
			SELECT number, marks, until, true FROM (SELECT * FROM {generations} ORDER BY number DESC LIMIT 1)
			WHERE until <= ?1 AND marks > 0
			LIMIT 1`),
		expireMarks: expand(`
			DELETE FROM {marks} WHERE generation = ?1 AND id IN (SELECT id FROM {marks} WHERE generation = ?1 ORDER BY id LIMIT ?2)`),
		dropGeneration: expand(`DELETE FROM {generations} WHERE number = ?1`),
		expireLog: expand(`
			DELETE FROM {log} WHERE seq IN (
				SELECT seq FROM (SELECT seq, until FROM {log} ORDER BY seq LIMIT ?2) WHERE until <= ?1)`),
		expireLeases: expand(`
			DELETE FROM {leases} WHERE id IN (
				SELECT id FROM {leases} WHERE until <= ?1 ORDER BY until LIMIT ?2)`),
	}
}
