package inbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
)

type contextKey struct{}

// Tx returns the transaction in which the event's mark, the handler's outputs and
// the acknowledgement will commit. The first call waits for the handler's turn;
// it returns the cause of ctx when that ends first. Later calls return the same
// transaction. It is over when the handler returns. Prepare statements with it:
// those prepared with the database are not for it (sql.Tx.Stmt says so).
//
// An error when ctx is not that of a handler under the strategy "inbox".
func Tx(ctx context.Context) (*sql.Tx, error) {
	switch value := ctx.Value(contextKey{}).(type) {
	case *Turn:
		return value.Tx(ctx)
	case string:
		return nil, fmt.Errorf("handler has no SQL transaction: its strategy is %q; set sql: in hapax.yaml or use broker sqlite", value)
	default:
		return nil, fmt.Errorf("no SQL transaction: the context is not that of a handler with strategy %q; pass the handler's own context on, and set sql: in hapax.yaml or use broker sqlite", "inbox")
	}
}

// SetResult stores a value with the event's mark, as JSON, for people who query
// the table of processed events. The last one of a handler counts. An error when
// the value cannot be encoded, or the strategy keeps no results: that of the
// embedded broker has no such column.
func SetResult(ctx context.Context, value any) error {
	turn, ok := ctx.Value(contextKey{}).(*Turn)
	if !ok || !turn.results {
		return errors.New("set result: the handler's strategy keeps no results: it needs the strategy \"inbox\" with sql: in hapax.yaml")
	}
	result, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("set result: %w", err)
	}
	turn.mu.Lock()
	defer turn.mu.Unlock()
	turn.result = result
	return nil
}

// WithTurn returns a handler's context from which Tx takes the turn.
func WithTurn(ctx context.Context, turn *Turn) context.Context {
	return context.WithValue(ctx, contextKey{}, turn)
}

// WithoutTx returns a handler's context whose strategy has no SQL transaction;
// Tx then names it in its error.
func WithoutTx(ctx context.Context, strategy string) context.Context {
	return context.WithValue(ctx, contextKey{}, strategy)
}
