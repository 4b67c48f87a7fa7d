package once_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/outbox/once"
	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type shop struct {
	*testing.T
	db              *sql.DB
	dialect         sqldb.Dialect
	orders, changes once.Table
}

func onShops(t *testing.T, test func(s shop)) {
	sqldbtest.Each(t, func(t *testing.T, dialect sqldb.Dialect, dsn string) {
		db := sqldbtest.Open(t, dsn, sqldb.Options{})
		for _, statement := range []string{
			`CREATE TABLE orders (id VARCHAR(40) PRIMARY KEY, item VARCHAR(40) NOT NULL, code VARCHAR(40) UNIQUE, state VARCHAR(10) NOT NULL DEFAULT 'new')`,
			`CREATE TABLE stock (item VARCHAR(40) PRIMARY KEY, on_hand INT NOT NULL)`,
			`CREATE TABLE stock_changes (item VARCHAR(40) NOT NULL, change_id VARCHAR(40) NOT NULL, quantity INT NOT NULL, PRIMARY KEY (item, change_id))`,
			`INSERT INTO stock VALUES ('kettle', 1000)`,
		} {
			_, err := db.ExecContext(t.Context(), statement)
			require.NoError(t, err)
		}
		test(shop{
			t, db, dialect,
			once.Table{Dialect: dialect, Table: sqldb.Table{Name: "orders"}, Key: []string{"id"}},
			once.Table{Dialect: dialect, Table: sqldb.Table{Name: "stock_changes"}, Key: []string{"item", "change_id"}},
		})
	})
}

func (s shop) onHand() (count int) {
	require.NoError(s, s.db.QueryRowContext(s.Context(), `SELECT on_hand FROM stock`).Scan(&count))
	return count
}

// take takes one kettle for a change's ID, in a transaction of its own.
func (s shop) take(ctx context.Context, id string, fail error) (applied bool, err error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback() }()
	applied, err = s.changes.Apply(ctx, tx, once.Row{"item": "kettle", "change_id": id, "quantity": -1}, func() error {
		if _, err := tx.ExecContext(ctx, `UPDATE stock SET on_hand = on_hand - 1`); err != nil {
			return err
		}
		return fail
	})
	if err != nil {
		return false, err
	}
	return applied, tx.Commit()
}

func TestCreateReturnsTheRowThatIsThere(t *testing.T) {
	onShops(t, func(s shop) {
		var item, state string
		create := func(row once.Row) bool {
			created, err := s.orders.Create(s.Context(), s.db, row, once.Into("item", &item), once.Into("state", &state))
			require.NoError(s, err)
			return created
		}
		require.True(s, create(once.Row{"id": "1", "item": "kettle"}))
		require.Equal(s, "kettle new", item+" "+state)
		_, err := s.db.ExecContext(s.Context(), `UPDATE orders SET state = 'sent'`)
		require.NoError(s, err)
		require.False(s, create(once.Row{"id": "1", "item": "cup"}), "a second one")
		require.Equal(s, "kettle sent", item+" "+state, "the first one's values")
		require.True(s, create(once.Row{"id": "2", "item": "cup"}))
	})
}

// Sixteen workers create and apply the same at once: one of each took effect.
func TestCopiesMeet(t *testing.T) {
	onShops(t, func(s shop) {
		const count = 20
		var created, applied atomic.Int64
		errs := make([]error, 16)
		var workers sync.WaitGroup
		for worker := range errs {
			workers.Go(func() {
				for i := range count {
					id := fmt.Sprint((i + worker) % count)
					new, err := s.orders.Create(s.Context(), s.db, once.Row{"id": id, "item": "kettle"})
					if new {
						created.Add(1)
					}
					done, failure := s.take(s.Context(), id, nil)
					for sqldb.Retryable(failure) {
						done, failure = s.take(s.Context(), id, nil)
					}
					if done {
						applied.Add(1)
					}
					errs[worker] = errors.Join(errs[worker], err, failure)
				}
			})
		}
		workers.Wait()
		require.NoError(s, errors.Join(errs...))
		require.EqualValues(s, count, created.Load())
		require.EqualValues(s, count, applied.Load())
		require.Equal(s, 1000-count, s.onHand())
	})
}

func TestAChangeThatFailsIsNotApplied(t *testing.T) {
	onShops(t, func(s shop) {
		boom := errors.New("boom")
		applied, err := s.take(s.Context(), "1", boom)
		require.ErrorIs(s, err, boom)
		require.False(s, applied)
		require.Equal(s, 1000, s.onHand())
		for _, want := range []bool{true, false} {
			applied, err = s.take(s.Context(), "1", nil)
			require.NoError(s, err)
			require.Equal(s, want, applied)
		}
		require.Equal(s, 999, s.onHand())
	})
}

// What looks like a copy and is none is an error, not silence.
func TestOtherConflictsAreErrors(t *testing.T) {
	onShops(t, func(s shop) {
		_, err := s.orders.Create(s.Context(), s.db, once.Row{"id": "1", "item": "kettle", "code": "x"})
		require.NoError(s, err)
		_, err = s.orders.Create(s.Context(), s.db, once.Row{"id": "2", "item": "kettle", "code": "x"})
		require.Error(s, err, "another unique index")
		if s.dialect == sqldb.MySQL {
			require.ErrorIs(s, err, once.ErrOtherKey)
		} else {
			require.True(s, sqldb.IsUnique(err), err)
		}
		_, err = s.orders.Create(s.Context(), s.db, once.Row{"id": "3", "item": nil})
		require.Error(s, err, "NULL where there must be a value")
	})
}

func TestMistakesAreNamed(t *testing.T) {
	table := once.Table{Dialect: sqldb.SQLite, Table: sqldb.Table{Name: "orders"}, Key: []string{"id"}}
	for want, test := range map[string]struct {
		table once.Table
		row   once.Row
		read  []once.Column
	}{
		`column "id" of the key is not set`:       {table, once.Row{"item": "kettle"}, nil},
		`Table.Key is empty`:                      {once.Table{Dialect: sqldb.SQLite, Table: sqldb.Table{Name: "orders"}}, once.Row{"id": 1}, nil},
		`column identifier "x) --" is not valid`:  {table, once.Row{"id": 1, "x) --": 2}, nil},
		`column identifier "a b" is not valid`:    {table, once.Row{"id": 1}, []once.Column{once.Into("a b", nil)}},
		`table identifier "orders;" is not valid`: {once.Table{Dialect: sqldb.SQLite, Table: sqldb.Table{Name: "orders;"}}, nil, nil},
	} {
		_, err := test.table.Create(t.Context(), nil, test.row, test.read...)
		require.ErrorContains(t, err, want)
	}
}
