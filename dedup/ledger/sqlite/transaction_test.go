package sqlite_test

import (
	"database/sql"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/sqlite"
)

// inbox is a ledger on a database with the caller's own transactions.
type inbox struct {
	*testing.T
	*sqlite.Ledger
	*clock
	db *sql.DB
}

func newInbox(t *testing.T) inbox {
	clock := newClock()
	db := openDB(t, filepath.Join(t.TempDir(), "ledger.db"), recommended)
	return inbox{t, openLedger(t, db, sqlite.Config{Window: time.Hour, Now: clock.Now}), clock, db}
}

// in runs work in a transaction and commits it, unless work returns an error.
func (i inbox) in(work func(tx *sql.Tx) error) error {
	tx, err := i.db.BeginTx(i.Context(), nil)
	require.NoError(i, err)
	if err := work(tx); err != nil {
		require.NoError(i, tx.Rollback())
		return err
	}
	return tx.Commit()
}

func (i inbox) marks(entries ...*dedup.Entry) []dedup.Verdict {
	i.Helper()
	require.NoError(i, i.in(func(tx *sql.Tx) error { return i.Mark(i.Context(), tx, entries) }))
	return verdicts(entries)
}

func (i inbox) looksUp(entries ...*dedup.Entry) []dedup.Verdict {
	i.Helper()
	require.NoError(i, i.Lookup(i.Context(), i.db, entries))
	return verdicts(entries)
}

func (i inbox) claims(entries ...*dedup.Entry) []dedup.Verdict {
	i.Helper()
	require.NoError(i, i.Claim(i.Context(), time.Minute, entries))
	return verdicts(entries)
}

func verdicts(entries []*dedup.Entry) (all []dedup.Verdict) {
	for _, entry := range entries {
		all = append(all, entry.Verdict)
	}
	return all
}

func rival(entry *dedup.Entry) *dedup.Entry {
	next := *entry
	next.Token, next.Verdict = dedup.NextToken(), dedup.Undecided
	return &next
}

func altered(entry *dedup.Entry) *dedup.Entry {
	next := rival(entry)
	next.Digest = dedup.NewDigest([]byte("other payload"))
	return next
}

type is = []dedup.Verdict

func TestMarkDecides(t *testing.T) {
	inbox := newInbox(t)
	e := events("order", 2)
	require.Equal(t, is{dedup.Fresh, dedup.Fresh}, inbox.looksUp(e...))
	require.Equal(t, is{dedup.Fresh, dedup.Fresh}, inbox.looksUp(e...), "looking changes nothing")
	require.Equal(t, is{dedup.Fresh}, inbox.marks(e[0]))
	require.Equal(t, is{dedup.Duplicate, dedup.Conflict, dedup.Fresh}, inbox.marks(rival(e[0]), altered(e[0]), e[1]))
	require.Equal(t, is{dedup.Duplicate, dedup.Conflict}, inbox.looksUp(rival(e[0]), altered(e[0])))
	require.Equal(t, is{dedup.Duplicate, dedup.Conflict}, inbox.claims(rival(e[0]), altered(e[0])))
	inbox.Advance(time.Hour)
	require.Equal(t, is{dedup.Fresh}, inbox.looksUp(rival(e[0])))
	require.Equal(t, is{dedup.Fresh, dedup.Fresh}, inbox.marks(rival(e[0]), altered(e[1])), "an expired mark is absent")
	require.Equal(t, is{dedup.Conflict}, inbox.marks(e[1]))
}

func TestMarkTakesRepeatedIDsOnce(t *testing.T) {
	inbox := newInbox(t)
	e := events("order", 2)
	require.Equal(t, is{dedup.Fresh, dedup.InFlight, dedup.Conflict}, inbox.looksUp(e[0], rival(e[0]), altered(e[0])))
	require.Equal(t, is{dedup.Fresh, dedup.Fresh, dedup.Duplicate, dedup.Conflict, dedup.Duplicate},
		inbox.marks(e[0], e[1], rival(e[0]), altered(e[0]), rival(e[1])))
}

func TestMarkRespectsLeases(t *testing.T) {
	inbox := newInbox(t)
	e := events("order", 2)
	require.Equal(t, is{dedup.Fresh, dedup.Fresh}, inbox.claims(e...))
	require.Equal(t, is{dedup.InFlight, dedup.Conflict, dedup.Fresh}, inbox.looksUp(rival(e[0]), altered(e[0]), e[0]))
	require.Equal(t, is{dedup.InFlight, dedup.Conflict}, inbox.marks(rival(e[0]), altered(e[0])))
	require.Equal(t, is{dedup.Fresh}, inbox.marks(e[0]), "the owner's lease becomes the mark")
	require.NoError(t, inbox.Release(t.Context(), e[:1]))
	require.Equal(t, is{dedup.Duplicate}, inbox.claims(rival(e[0])))

	inbox.Advance(time.Minute)
	taker := rival(e[1])
	require.Equal(t, is{dedup.Fresh}, inbox.marks(taker), "a lease that ran out stops nobody")
	require.NoError(t, inbox.Complete(t.Context(), e[1:]))
	require.True(t, e[1].Lost, "its owner lost it (I5)")
	var leases int
	require.NoError(t, inbox.db.QueryRow(`SELECT count(*) FROM hapax_ledger_leases`).Scan(&leases))
	require.Zero(t, leases)
}

func TestMarkCommitsAndRollsBackWithItsTransaction(t *testing.T) {
	inbox := newInbox(t)
	e, boom := events("order", 3), errors.New("publish failed")
	require.Equal(t, is{dedup.Fresh}, inbox.claims(e[0]))
	require.ErrorIs(t, inbox.in(func(tx *sql.Tx) error {
		if err := inbox.Mark(t.Context(), tx, e); err != nil {
			return err
		}
		require.NoError(t, inbox.Lookup(t.Context(), tx, e))
		require.Equal(t, is{dedup.Duplicate, dedup.Duplicate, dedup.Duplicate}, verdicts(e), "its own writes")
		require.Equal(t, is{dedup.InFlight, dedup.Fresh}, inbox.looksUp(rival(e[0]), rival(e[1])), "others do not see them")
		return boom
	}), boom)
	require.Equal(t, is{dedup.InFlight, dedup.Fresh}, inbox.looksUp(rival(e[0]), rival(e[1])))
	require.Equal(t, is{dedup.Fresh, dedup.Fresh, dedup.Fresh}, inbox.marks(e...))
}

// TestMarksOfOneIDMeet lets 16 optimistic workers commit copies of each ID at
// the same time: one effect each.
func TestMarksOfOneIDMeet(t *testing.T) {
	inbox := newInbox(t)
	_, err := inbox.db.Exec(`CREATE TABLE effects (event_id TEXT)`)
	require.NoError(t, err)
	const count = 40
	shared := events("order", count)
	var workers sync.WaitGroup
	errs := make([]error, 16)
	for worker := range errs {
		workers.Go(func() {
			for i := range count {
				entry := rival(shared[(i+worker*5)%count])
				errs[worker] = errors.Join(errs[worker], inbox.in(func(tx *sql.Tx) error {
					if err := inbox.Mark(t.Context(), tx, []*dedup.Entry{entry}); err != nil || entry.Verdict != dedup.Fresh {
						return err
					}
					_, err := tx.ExecContext(t.Context(), `INSERT INTO effects VALUES (?)`, entry.EventID)
					return err
				}))
			}
		})
	}
	workers.Wait()
	require.NoError(t, errors.Join(errs...))
	var effects, distinct int
	require.NoError(t, inbox.db.QueryRow(`SELECT count(*), count(DISTINCT event_id) FROM effects`).Scan(&effects, &distinct))
	require.Equal(t, []int{count, count}, []int{effects, distinct})
}

func TestReportsKeepWhatWasMarked(t *testing.T) {
	inbox := newInbox(t)
	e := events("order", 3)
	e[1].Topic, e[2].Scope.Handler = "orders.eu", "Audit"
	inbox.marks(e...)
	rows, err := inbox.db.Query(`SELECT event_id, service, handler, topic, marked_at FROM hapax_ledger_log ORDER BY seq`)
	require.NoError(t, err)
	defer rows.Close()
	for _, want := range e {
		require.True(t, rows.Next())
		var got dedup.Entry
		var markedAt int64
		require.NoError(t, rows.Scan(&got.EventID, &got.Scope.Service, &got.Scope.Handler, &got.Topic, &markedAt))
		require.Equal(t, dedup.Entry{EventID: want.EventID, Scope: want.Scope, Topic: want.Topic}, got)
		require.Equal(t, inbox.Now().UnixMilli(), markedAt)
	}
	require.False(t, rows.Next())
	require.NoError(t, rows.Err())
}
