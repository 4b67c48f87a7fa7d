// Package pgxtx lets a transaction of pgx publish to an outbox.
//
//	tx, err := pool.Begin(ctx)
//	events, err := outbox.NewPublisher(ctx, pgxtx.Wrap(tx), outbox.Config{})
package pgxtx

import (
	"context"
	"database/sql"
	"database/sql/driver"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Executor runs statements in a transaction of pgx; it is an outbox.Executor.
type Executor struct{ tx pgx.Tx }

// Wrap returns the Executor of a transaction, of a *pgx.Conn's or of a pool's.
// Committing it stays the caller's.
func Wrap(tx pgx.Tx) Executor { return Executor{tx} }

// ExecContext runs a statement.
func (e Executor) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	tag, err := e.tx.Exec(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return result{tag}, nil
}

type result struct{ pgconn.CommandTag }

// LastInsertId implements sql.Result; PostgreSQL has none.
func (result) LastInsertId() (int64, error) {
	return driver.RowsAffected(0).LastInsertId()
}

// RowsAffected implements sql.Result.
func (r result) RowsAffected() (int64, error) { return r.CommandTag.RowsAffected(), nil }
