package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/ledgertest"
	"github.com/hapax-go/hapax/dedup/ledger/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a clock that tests set.
type clock struct {
	mutex sync.Mutex
	now   time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_700_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.now = c.now.Add(d)
}

const recommended = "?_pragma=busy_timeout(30000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_txlock=immediate"

func openDB(t testing.TB, file, options string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+file+options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func openLedger(t testing.TB, db *sql.DB, config sqlite.Config) *sqlite.Ledger {
	t.Helper()
	ledger, err := sqlite.Open(context.Background(), db, config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, ledger.Close()) })
	return ledger
}

func TestConformance(t *testing.T) {
	// Deferred transactions and a rollback journal: slower, and as right.
	const deferred = "?_pragma=busy_timeout(30000)&_pragma=synchronous(OFF)"
	for name, run := range map[string]struct {
		options    string
		generation int
	}{
		"recommended options": {recommended, 0},
		"default options":     {deferred, 0},
		"small generations":   {recommended, 3}, // a turn at nearly every call
	} {
		options, generation := run.options, run.generation
		t.Run(name, func(t *testing.T) {
			ledgertest.Run(t, func(t *testing.T, run ledgertest.Options) ledgertest.Harness {
				clock, file := newClock(), filepath.Join(t.TempDir(), "ledger.db")
				open := func() dedup.Ledger {
					return openLedger(t, openDB(t, file, options), sqlite.Config{Window: run.Window, Now: clock.Now, GenerationMarks: generation})
				}
				return ledgertest.Harness{Ledger: open(), Peer: open, Reopen: open, Advance: clock.Advance}
			})
		})
	}
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	db := openDB(t, filepath.Join(t.TempDir(), "ledger.db"), recommended)
	_, err := sqlite.Open(t.Context(), db, sqlite.Config{Table: `x"; DROP TABLE y`})
	require.EqualError(t, err, `open sqlite ledger: table name "x\"; DROP TABLE y": `+
		`expected a letter or _, then letters, digits and _, at most 60 in all: choose another name`)

	_, err = db.Exec(`CREATE TABLE orders (name TEXT)`)
	require.NoError(t, err)
	_, err = sqlite.Open(t.Context(), db, sqlite.Config{Table: "orders"})
	require.ErrorContains(t, err, "the table orders may belong to something else: choose another name")
}

func TestTablesAreIndependent(t *testing.T) {
	db := openDB(t, filepath.Join(t.TempDir(), "ledger.db"), recommended)
	left, right := openLedger(t, db, sqlite.Config{Table: "a"}), openLedger(t, db, sqlite.Config{Table: "b"})
	for _, ledger := range []*sqlite.Ledger{left, right} {
		entries := events("order", 1)
		require.NoError(t, ledger.Claim(t.Context(), time.Minute, entries))
		require.Equal(t, dedup.Fresh, entries[0].Verdict)
	}
}

func TestErrorsNameTheCall(t *testing.T) {
	db := openDB(t, filepath.Join(t.TempDir(), "ledger.db"), recommended)
	ledger := openLedger(t, db, sqlite.Config{})
	_, err := db.Exec(`DROP TABLE hapax_ledger`)
	require.NoError(t, err)
	err = ledger.Claim(t.Context(), time.Minute, events("order", 3))
	require.ErrorContains(t, err, "claim 3 events: ")
	require.ErrorContains(t, err, "no such table: hapax_ledger")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, ledger.Complete(ctx, events("order", 1)), context.Canceled)
}

func TestExpireRemovesInChunks(t *testing.T) {
	clock := newClock()
	db := openDB(t, filepath.Join(t.TempDir(), "ledger.db"), recommended)
	ledger := openLedger(t, db, sqlite.Config{Window: time.Hour, Now: clock.Now})
	marked := events("marked", 500)
	require.NoError(t, ledger.Claim(t.Context(), time.Minute, marked))
	require.NoError(t, ledger.Complete(t.Context(), marked))
	abandoned := events("abandoned", 20)
	require.NoError(t, ledger.Claim(t.Context(), time.Minute, abandoned))
	expire := func(limit, want int) {
		t.Helper()
		removed, err := ledger.Expire(t.Context(), limit)
		require.NoError(t, err)
		require.Equal(t, want, removed)
	}

	clock.Advance(30 * time.Minute)
	young := events("young", 100)
	require.NoError(t, ledger.Claim(t.Context(), time.Minute, young))
	require.NoError(t, ledger.Complete(t.Context(), young))
	expire(0, 0)
	require.NoError(t, ledger.Complete(t.Context(), abandoned[:1]))
	require.False(t, abandoned[0].Lost, "a lease that ran out is kept for its owner")

	clock.Advance(30 * time.Minute)
	expire(450, 450)
	expire(450, 50)
	clock.Advance(time.Minute)
	expire(0, 19)
	require.NoError(t, ledger.Claim(t.Context(), time.Minute, young))
	for _, entry := range young {
		require.Equal(t, dedup.Duplicate, entry.Verdict, entry.EventID)
	}
	clock.Advance(2 * time.Hour)
	expire(0, 101)
}

func events(name string, count int) []*dedup.Entry {
	entries := make([]*dedup.Entry, count)
	for i := range entries {
		id, scope := fmt.Sprint(name, "-", i), dedup.Scope{Service: "fulfilment", Handler: "PlaceOrder"}
		entries[i] = &dedup.Entry{
			ID: dedup.NewID(scope, id), Digest: dedup.NewDigest([]byte(id)), Token: dedup.NextToken(),
			EventID: id, Scope: scope, Topic: "orders.created",
		}
	}
	return entries
}
