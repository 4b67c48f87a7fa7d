package effects_test

import (
	"database/sql"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
)

func open(t *testing.T, path string) *sql.DB {
	db, err := effects.Open(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

var one = fault.Effect{ID: "e1", Key: "k", Seq: 7, Consumer: "c1"}

func TestDuplicatesAreVisible(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "what? 100% #1"))
	two := fault.Effect{ID: "e2", Key: "k", Seq: 8, Consumer: "c2"}
	for _, effect := range []fault.Effect{two, one, one} {
		require.NoError(t, effects.Insert(t.Context(), db, effect))
	}
	read, err := effects.Read(t.Context(), db)
	require.NoError(t, err)
	first, second, third := two, one, one
	first.Position, second.Position, third.Position = 1, 2, 3
	require.Equal(t, []fault.Effect{first, second, third}, read, "in the order of commits")

	delivery := fault.Delivery{ID: "e1", Copy: 1, Consumer: "c1", Attempt: 2}
	require.NoError(t, effects.InsertDelivery(t.Context(), db, delivery))
	require.NoError(t, effects.InsertDelivery(t.Context(), db, delivery))
	deliveries, err := effects.ReadDeliveries(t.Context(), db)
	require.NoError(t, err)
	require.Equal(t, []fault.Delivery{delivery, delivery}, deliveries)

	count, err := effects.ReadCount(t.Context(), db)
	require.NoError(t, err)
	require.Equal(t, effects.Count{Effects: 3, Events: 2, Deliveries: 2}, count)
	progress, err := effects.Progress(t.Context(), db)
	require.NoError(t, err)
	require.EqualValues(t, 3, progress)
}

func TestInsertIsPartOfTheTransaction(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "effects"))
	for _, commit := range []bool{false, true} {
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		require.NoError(t, effects.Insert(t.Context(), tx, one))
		if commit {
			require.NoError(t, tx.Commit())
		} else {
			require.NoError(t, tx.Rollback())
		}
		progress, err := effects.Progress(t.Context(), db)
		require.NoError(t, err)
		require.Equal(t, commit, progress == 1)
	}
}

// Many connections write at once, and none of them sees "database is locked".
func TestWritersWaitForEachOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "effects")
	var writers sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		db := open(t, path)
		writers.Go(func() {
			for range 50 {
				tx, err := db.BeginTx(t.Context(), nil)
				if err == nil {
					_, err = tx.ExecContext(t.Context(), `SELECT COUNT(*) FROM effects`)
				}
				if err == nil {
					err = effects.Insert(t.Context(), tx, one)
				}
				if err == nil {
					err = tx.Commit()
				}
				if err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	writers.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	count, err := effects.ReadCount(t.Context(), open(t, path))
	require.NoError(t, err)
	require.Equal(t, effects.Count{Effects: 400, Events: 1}, count)
}

func TestOpenErrors(t *testing.T) {
	_, err := effects.Open(t.Context(), filepath.Join(t.TempDir(), "no", "such", "folder"))
	require.ErrorContains(t, err, "open effects ")
	require.ErrorContains(t, err, "unable to open database file")
}
