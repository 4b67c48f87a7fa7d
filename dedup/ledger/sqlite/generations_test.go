package sqlite_test

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/sqlite"
)

func newInboxOf(t *testing.T, marks int) inbox {
	clock := newClock()
	db := openDB(t, filepath.Join(t.TempDir(), "ledger.db"), recommended)
	return inbox{t, openLedger(t, db, sqlite.Config{Window: time.Hour, Now: clock.Now, GenerationMarks: marks}), clock, db}
}

// A transaction that turns and is rolled back leaves nothing: neither in the file,
// nor in what the process believes to be in the generation it sealed.
func TestATurnThatIsRolledBackLeavesNothing(t *testing.T) {
	inbox := newInboxOf(t, 2)
	boom := errors.New("boom")
	e := events("order", 8)
	require.Equal(t, is{dedup.Fresh}, inbox.marks(e[0]))
	require.ErrorIs(t, inbox.in(func(tx *sql.Tx) error {
		for _, entry := range e[1:4] { // seals what has 0 and 1
			require.NoError(t, inbox.Mark(t.Context(), tx, []*dedup.Entry{entry}))
			require.Equal(t, dedup.Fresh, entry.Verdict)
		}
		require.NoError(t, inbox.Mark(t.Context(), tx, []*dedup.Entry{rival(e[4])})) // reads the filter
		return boom
	}), boom)
	require.Equal(t, is{dedup.Fresh}, inbox.marks(e[5]))
	require.Equal(t, is{dedup.Fresh}, inbox.marks(e[6])) // seals what has 0 and 5
	require.Equal(t, is{dedup.Fresh}, inbox.marks(e[7]))
	for _, marked := range []int{0, 5, 6, 7} {
		require.Equal(t, is{dedup.Duplicate}, inbox.marks(rival(e[marked])), marked)
	}
	require.Equal(t, is{dedup.Fresh, dedup.Fresh}, inbox.marks(e[1], e[4]))
}

// Copies meet whatever generation the first of them is in, for two processes.
func TestCopiesAcrossGenerationsMeet(t *testing.T) {
	inbox := newInboxOf(t, 2)
	other := openLedger(t, inbox.db, sqlite.Config{Window: time.Hour, Now: inbox.Now, GenerationMarks: 2})
	e := events("order", 200)
	require.Equal(t, is{dedup.Fresh}, inbox.claims(e[199]))
	for i, entry := range e[:199] {
		require.Equal(t, is{dedup.Fresh}, inbox.marks(entry))
		first := rival(e[i/2])
		require.NoError(t, other.Claim(t.Context(), time.Minute, []*dedup.Entry{first}))
		require.Equal(t, dedup.Duplicate, first.Verdict, fmt.Sprint(i))
	}
	require.Equal(t, is{dedup.InFlight}, inbox.claims(rival(e[199])), "a lease knows no generations")
	require.NoError(t, other.Complete(t.Context(), e[199:]))
	require.False(t, e[199].Lost)
	require.Equal(t, is{dedup.Duplicate}, inbox.claims(rival(e[199])))

	inbox.Advance(time.Hour)
	removed, err := inbox.Expire(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, 200, removed)
	for _, table := range []string{"hapax_ledger", "hapax_ledger_log"} {
		var rows int
		require.NoError(t, inbox.db.QueryRow(`SELECT count(*) FROM `+table).Scan(&rows))
		require.Zero(t, rows, table)
	}
	require.Equal(t, is{dedup.Fresh}, inbox.marks(rival(e[0])))
}

func TestAnOldTableIsNamed(t *testing.T) {
	db := openDB(t, filepath.Join(t.TempDir(), "ledger.db"), recommended)
	_, err := db.Exec(`CREATE TABLE hapax_ledger (seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE)`)
	require.NoError(t, err)
	_, err = sqlite.Open(t.Context(), db, sqlite.Config{})
	require.ErrorContains(t, err, "the table hapax_ledger may belong to something else")
}

// Whatever the generations have, none is left that could go.
func TestExpireStopsAtNoBoundaryOfAGeneration(t *testing.T) {
	const chunk, generations = 200, 5
	inbox := newInboxOf(t, chunk)
	e := events("order", generations*chunk)
	for len(e) > 0 {
		inbox.marks(e[:chunk]...)
		e = e[chunk:]
	}
	inbox.Advance(2 * time.Hour)
	removed, err := inbox.Expire(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, generations*chunk, removed)
}

// A generation whose marks last for a longer window than those of others is not looked at
// each time: with windows of a minute and a week there are many of them.
func TestExpireLooksAtNoGenerationThatLives(t *testing.T) {
	inbox := newInboxOf(t, 2)
	lasting := openLedger(t, inbox.db, sqlite.Config{Window: 48 * time.Hour, Now: inbox.Now, GenerationMarks: 2})
	long, short := events("long", 8), events("short", 8)
	inbox.marks(events("first", 1)...)
	for i := range long { // each in generations with others of its kind
		require.NoError(t, lasting.Claim(t.Context(), time.Minute, long[i:i+1]))
		require.NoError(t, lasting.Complete(t.Context(), long[i:i+1]))
		if i%2 == 1 {
			inbox.marks(short[i-1 : i+1]...)
		}
	}
	inbox.Advance(2 * time.Hour)
	removed, err := inbox.Expire(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, 1+len(short), removed)
	for i := range long {
		require.Equal(t, is{dedup.Duplicate}, inbox.marks(rival(long[i])))
	}
	plan, err := inbox.db.Query(`EXPLAIN QUERY PLAN `+inbox.OldestQuery(), 0)
	require.NoError(t, err)
	defer plan.Close()
	var steps []string
	for plan.Next() {
		var id, parent, unused int
		var step string
		require.NoError(t, plan.Scan(&id, &parent, &unused, &step))
		steps = append(steps, step)
	}
	require.NoError(t, plan.Err())
	require.Contains(t, steps, "SEARCH hapax_ledger_generations USING INDEX hapax_ledger_generations_sealed (until<?)")
}

// Where handlers of a short and of a long window share the tables, a generation that has
// marks of both lasts for an eighth of the long one, and no mark is lost.
func TestGenerationsOfAShortAndALongWindowAreFew(t *testing.T) {
	inbox := newInboxOf(t, 1000)
	lasting := openLedger(t, inbox.db, sqlite.Config{Window: 48 * time.Hour, Now: inbox.Now, GenerationMarks: 1000})
	const hours = 40
	long, short := events("long", hours), events("short", hours)
	for i := range hours {
		require.NoError(t, lasting.Claim(t.Context(), time.Minute, long[i:i+1]))
		require.NoError(t, lasting.Complete(t.Context(), long[i:i+1]))
		require.Equal(t, is{dedup.Fresh}, inbox.marks(short[i]))
		require.Equal(t, is{dedup.Duplicate}, inbox.marks(rival(short[i])))
		inbox.Advance(time.Hour)
	}
	var generations int
	require.NoError(t, inbox.db.QueryRow(`SELECT count(*) FROM hapax_ledger_generations`).Scan(&generations))
	require.LessOrEqual(t, generations, 7)
	require.Equal(t, is{dedup.Fresh}, inbox.marks(rival(short[0])), "its window is over")
	for i := range long {
		require.Equal(t, is{dedup.Duplicate}, inbox.marks(rival(long[i])))
	}
	inbox.Advance(48 * time.Hour)
	removed, err := inbox.Expire(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, 2*hours+1, removed)
}
