package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/handlers"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// MySQL tells of a deadlock that a locking read met where its rows would stand, not
// as the query's error. It is nobody's fault all the same.
func TestADeadlockThatIsToldWithTheRows(t *testing.T) {
	eachServer(t, func(r *rig) {
		const events = 120
		r.deadlocks(events, r.process().handler(r.readAndMove), r.process().handler(r.readAndMove))
		r.exact(events)
	})
}

// readAndMove is move with one locking read of both accounts.
func (r *rig) readAndMove(ctx context.Context, id string) error {
	tx, err := inbox.Tx(ctx)
	if err != nil {
		return err
	}
	order := `ASC`
	if id[len(id)-1]%2 == 0 {
		order = `DESC`
	}
	rows, err := tx.QueryContext(ctx, `SELECT id FROM accounts WHERE id IN (1, 2) ORDER BY id `+order+` FOR UPDATE`)
	if err != nil {
		return fmt.Errorf("read accounts: %w", err)
	}
	for rows.Next() {
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return fmt.Errorf("read accounts: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `UPDATE accounts SET balance = balance + 1`); err != nil {
		return fmt.Errorf("move money: %w", err)
	}
	return r.effect(ctx, id)
}

// The deadlock has ended the whole transaction. What a handler writes that pays no
// heed to it must not commit by itself, without the mark.
func TestNothingCommitsAfterADeadlockThatIsToldWithTheRows(t *testing.T) {
	r := newRigOn(t, sqldb.MySQL)
	// The one of the two that has written less is ended.
	heavy, err := r.db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer heavy.Rollback() //nolint:errcheck // after a COMMIT it does nothing
	for i := range 50 {
		_, err = heavy.ExecContext(t.Context(), `INSERT INTO accounts VALUES (?, 0)`, 100+i)
		require.NoError(t, err)
	}
	_, err = heavy.ExecContext(t.Context(), `UPDATE accounts SET balance = 1 WHERE id = 2`)
	require.NoError(t, err)

	locked := make(chan struct{})
	var met error
	h := r.process().handler(func(ctx context.Context, id string) error {
		tx, err := inbox.Tx(ctx)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE accounts SET balance = 1 WHERE id = 1`)
		close(locked)
		var balance int
		met = tx.QueryRowContext(ctx, `SELECT balance FROM accounts WHERE id BETWEEN 2 AND 3 ORDER BY id FOR UPDATE`).Scan(&balance)
		_ = r.effect(ctx, id) // goes on as if nothing had happened
		return err
	})
	outcome := make(chan error, 1)
	go func() { outcome <- h.deliver("a", "payload") }()
	<-locked
	_, err = heavy.ExecContext(t.Context(), `UPDATE accounts SET balance = 2 WHERE id = 1`)
	require.NoError(t, err)
	require.NoError(t, heavy.Commit())
	err = <-outcome
	require.True(t, sqldb.Retryable(met), "%v", met)
	require.Error(t, err)
	var step *dedup.StepError
	require.True(t, errors.As(err, &step) && handlers.Classify(err) != handlers.Buried, "blamed: %v", err)
	r.exact(0)
}

// A connection of MySQL runs one statement at a time, and is lost when it is asked to run
// another one while rows are read. That would be told as the database's fault, for ever,
// and undo all that share the transaction.
func TestAStatementWhileRowsAreRead(t *testing.T) {
	eachServer(t, func(r *rig) {
		p := r.process(configured(func(c *inbox.Config) { c.Connections = 1 }))
		bad := p.handler(func(ctx context.Context, id string) error {
			tx, err := inbox.Tx(ctx)
			if err != nil {
				return err
			}
			rows, err := tx.QueryContext(ctx, `SELECT id FROM accounts`)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				if err := r.effect(ctx, id); err != nil {
					return err
				}
			}
			return rows.Err()
		})
		good := p.handler(r.effect)
		require.NoError(r.t, good.deliver("before", "payload"))
		err := bad.deliver("bad", "payload")
		require.Error(r.t, err)
		var step *dedup.StepError
		require.False(r.t, errors.As(err, &step), "not the handler's own: %v", err)
		require.NoError(r.t, good.deliver("after", "payload"))
		r.exact(2)
	})
}
