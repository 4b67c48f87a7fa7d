package once

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

// Querier is a *sql.Tx, *sql.Conn or *sql.DB.
type Querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Table is a table whose rows are made once.
type Table struct {
	Dialect sqldb.Dialect
	Table   sqldb.Table
	// Key are the columns of the unique key that tells whether a row is there. The
	// table must have exactly this one as primary key or unique index.
	Key []string
}

// Row is a row's values by column. All columns of the key must be set.
type Row map[string]any

// Column is a column to be read; see Into.
type Column struct {
	name string
	into any
}

// Into reads a column of the row into a pointer, as sql.Row.Scan does.
func Into(column string, pointer any) Column { return Column{column, pointer} }

// ErrOtherKey: a row was refused because of another unique index than the key.
var ErrOtherKey = errors.New("another row has a value that must be unique")

// Create inserts a row unless one with its key is there, and reads columns of the
// row that is there in the end. An existing row is not changed, whatever else its
// values are; read and compare them where that matters.
//
// In a transaction the row counts when that commits. Of two that create the same
// row at the same time, the second waits for the first; under serializable and
// repeatable-read isolation it gets an error that sqldb.Retryable accepts.
func (t Table) Create(ctx context.Context, q Querier, row Row, read ...Column) (created bool, err error) {
	if err := t.validate(row, read); err != nil {
		return false, fmt.Errorf("create row of %s: %w", t.Table.Name, err)
	}
	if created, err = t.insert(ctx, q, row); err == nil && (len(read) > 0 || !created) {
		err = t.read(ctx, q, row, read)
	}
	if err != nil {
		return false, fmt.Errorf("create row of %s: %w", t.Table.Name, err)
	}
	return created, nil
}

// Apply runs change unless a row with this key is there, and inserts the row: both
// or none. It returns whether the change was applied; what change returns, it
// returns too, and the caller rolls back.
func (t Table) Apply(ctx context.Context, tx *sql.Tx, row Row, change func() error) (applied bool, err error) {
	created, err := t.Create(ctx, tx, row)
	if err != nil || !created {
		return false, err
	}
	// The row is first, so that a second one waits here and not in the middle of
	// the change.
	if err := change(); err != nil {
		return false, fmt.Errorf("apply change of %s: %w", t.Table.Name, err)
	}
	return true, nil
}

func (t Table) insert(ctx context.Context, q Querier, row Row) (bool, error) {
	columns := slices.Sorted(maps.Keys(row))
	args := make([]any, len(columns))
	for i, column := range columns {
		args[i] = row[column]
	}
	query := fmt.Sprintf(`INSERT INTO %s (%s) VALUES %s`, t.Dialect.Quote(t.Table), t.names(columns), t.Dialect.Tuples(1, 1, len(columns)))
	if t.Dialect == sqldb.MySQL {
		// INSERT IGNORE would also ignore what is wrong with the values, and ON
		// DUPLICATE KEY UPDATE takes any key. An error of a statement leaves
		// MySQL's transaction as it was.
		_, err := q.ExecContext(ctx, query, args...)
		if sqldb.IsUnique(err) {
			return false, nil
		}
		return err == nil, err
	}
	result, err := q.ExecContext(ctx, query+` ON CONFLICT (`+t.names(t.Key)+`) DO NOTHING`, args...)
	if err != nil {
		return false, err
	}
	count, err := result.RowsAffected()
	return count == 1, err
}

// read reads the row that is there. It locks it where a plain read could see the
// past: before the row was there.
func (t Table) read(ctx context.Context, q Querier, row Row, read []Column) error {
	names, into := []string{t.Key[0]}, []any{new(any)}
	for _, column := range read {
		names, into = append(names, column.name), append(into, column.into)
	}
	query := fmt.Sprintf(`SELECT %s FROM %s WHERE `, t.names(names), t.Dialect.Quote(t.Table))
	var args []any
	for i, column := range t.Key {
		if i > 0 {
			query += ` AND `
		}
		query += t.Dialect.QuoteName(column) + ` = ` + t.Dialect.Placeholder(i+1)
		args = append(args, row[column])
	}
	if t.Dialect == sqldb.MySQL {
		query += ` LOCK IN SHARE MODE`
	}
	err := q.QueryRowContext(ctx, query, args...).Scan(into...)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%w: there is none with this %s; or it has just been deleted", ErrOtherKey, strings.Join(t.Key, ", "))
	}
	return err
}

func (t Table) names(columns []string) string {
	quoted := make([]string, len(columns))
	for i, column := range columns {
		quoted[i] = t.Dialect.QuoteName(column)
	}
	return strings.Join(quoted, ", ")
}

func (t Table) validate(row Row, read []Column) error {
	if err := t.Table.Validate(t.Dialect); err != nil {
		return err
	}
	if len(t.Key) == 0 {
		return errors.New("Table.Key is empty, expected the columns of its unique key")
	}
	for _, column := range t.Key {
		if value, set := row[column]; !set || value == nil {
			return fmt.Errorf("column %q of the key is not set: rows without it are never the same", column)
		}
	}
	names := slices.Collect(maps.Keys(row))
	for _, column := range read {
		names = append(names, column.name)
	}
	for _, name := range names {
		if err := sqldb.ValidateIdentifier(name); err != nil {
			return fmt.Errorf("column %w", err)
		}
	}
	return nil
}
