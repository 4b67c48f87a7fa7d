package inbox_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

// Until somebody analyzes it, PostgreSQL takes a generation that has just begun for
// empty, however many marks it has: a lookup must not read all of them, nor be compiled
// because of what the planner thinks it will find.
func TestALookupReadsNoWholeGeneration(t *testing.T) {
	r := newRig(t, sqldb.Postgres, sqldbtest.New(t, sqldb.Postgres))
	p := r.process()
	r.exec(`ALTER TABLE hapax_inbox_g1 SET (autovacuum_enabled = false)`)
	r.exec(`INSERT INTO hapax_inbox (generation, id, digest, service, handler, event_id, event_type)
		SELECT 1, gen_random_uuid(), gen_random_uuid(), 's', 'h', n::text, 't' FROM generate_series(1, 100000) n`)
	ids := make([][16]byte, 500)
	for i := range ids {
		ids[i] = dedup.ID{byte(i), byte(i >> 8)}
	}
	rows, err := r.db.QueryContext(t.Context(), `EXPLAIN `+p.inbox.LookupSQL(), ids)
	require.NoError(t, err)
	defer rows.Close()
	var plan []string
	for rows.Next() {
		var line string
		require.NoError(t, rows.Scan(&line))
		plan = append(plan, line)
	}
	require.NoError(t, rows.Err())
	require.NotContains(t, strings.Join(plan, "\n"), "Seq Scan")
	require.NotContains(t, strings.Join(plan, "\n"), "JIT")
}
