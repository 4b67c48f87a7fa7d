package main

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

// audit looks for effects that were made more than once: rows of a user's table
// that share what ties an effect to its cause.
type audit struct {
	dialect sqldb.Dialect
	table   sqldb.Table
	by      []string
	limit   int
}

// auditQueries are complete statements without parameters, to be run by hand too.
type auditQueries struct {
	// Summary counts IDs, their effects, and how many effects are too many.
	Summary string `json:"summary"`
	// Without counts effects that have no ID.
	Without string `json:"without_id"`
	// Duplicates lists the IDs with more than one effect, the worst first.
	Duplicates string `json:"duplicates"`
}

// auditReport is what the queries found.
type auditReport struct {
	IDs        int64            `json:"ids"`
	Effects    int64            `json:"effects"`
	Surplus    int64            `json:"surplus"`
	Without    int64            `json:"without_id"`
	Duplicates []auditDuplicate `json:"duplicates"`
}

type auditDuplicate struct {
	ID      []string `json:"id"`
	Effects int64    `json:"effects"`
}

// newAudit checks everything that is written into the statements.
func newAudit(dialect sqldb.Dialect, table string, by []string, limit int) (audit, error) {
	a := audit{dialect: dialect, by: by, limit: limit}
	if schema, name, found := strings.Cut(table, "."); found {
		a.table = sqldb.Table{Schema: schema, Name: name}
	} else {
		a.table = sqldb.Table{Name: table}
	}
	if err := a.table.Validate(dialect); err != nil {
		return a, fmt.Errorf("audit: %w", err)
	}
	if len(by) == 0 {
		return a, errors.New("audit: --by is empty, expected a column, or several with commas between them")
	}
	for _, column := range by {
		if err := sqldb.ValidateIdentifier(column); err != nil {
			return a, fmt.Errorf("audit: column %w", err)
		}
	}
	if limit < 1 {
		return a, fmt.Errorf("audit: limit is %d, expected at least 1", limit)
	}
	return a, nil
}

func (a audit) queries() auditQueries {
	table := a.dialect.Quote(a.table)
	columns := make([]string, len(a.by))
	for i, column := range a.by {
		columns[i] = a.dialect.QuoteName(column)
		if a.dialect == sqldb.SQLite {
			// A quoted name that is no column is a text there, the same for every row;
			// with its table before it, it is an error.
			columns[i] = table + "." + columns[i]
		}
	}
	groups, shown := a.exactly(columns)
	present := strings.Join(columns, " IS NOT NULL AND ") + " IS NOT NULL"
	absent := strings.Join(columns, " IS NULL OR ") + " IS NULL"
	return auditQueries{
		Summary: fmt.Sprintf(`SELECT COUNT(*) AS ids, COALESCE(SUM(effects), 0) AS effects, COALESCE(SUM(effects - 1), 0) AS surplus
FROM (SELECT COUNT(*) AS effects FROM %s WHERE %s GROUP BY %s) AS counted`, table, present, groups),
		Without: fmt.Sprintf(`SELECT COUNT(*) AS without_id FROM %s WHERE %s`, table, absent),
		Duplicates: fmt.Sprintf(`SELECT %s, COUNT(*) AS effects FROM %s WHERE %s
GROUP BY %s HAVING COUNT(*) > 1 ORDER BY COUNT(*) DESC, %s LIMIT %d`, shown, table, present, groups, shown, a.limit),
	}
}

// exactly writes what to group by, so that IDs are only equal to themselves, and what to
// show of a group. Where a column's collation passes over case, as those of MySQL do
// unless told otherwise, and over blanks at the end, it would take IDs for the same.
func (a audit) exactly(columns []string) (groups, shown string) {
	grouped, first := slices.Clone(columns), slices.Clone(columns)
	for i, column := range columns {
		switch a.dialect {
		case sqldb.MySQL:
			grouped[i], first[i] = "CAST("+column+" AS BINARY)", "MIN("+column+")"
		case sqldb.SQLite:
			grouped[i] += " COLLATE BINARY"
		}
	}
	return strings.Join(grouped, ", "), strings.Join(first, ", ")
}

// run runs the queries in one transaction, so that their answers fit together, and
// changes nothing.
func (a audit) run(ctx context.Context, db *sql.DB) (report auditReport, err error) {
	options := &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	if a.dialect == sqldb.SQLite {
		options = nil // its transactions are like that
	}
	tx, err := db.BeginTx(ctx, options)
	if err != nil {
		return report, fmt.Errorf("audit %s: %w", a.table.Name, err)
	}
	defer func() { _ = tx.Rollback() }()
	if err := a.read(ctx, tx, &report); err != nil {
		if sqldb.IsMissing(err) {
			err = fmt.Errorf("%w: check the names of the table and its columns", err)
		}
		return report, fmt.Errorf("audit %s: %w", a.table.Name, err)
	}
	return report, nil
}

func (a audit) read(ctx context.Context, tx *sql.Tx, report *auditReport) error {
	queries := a.queries()
	if err := tx.QueryRowContext(ctx, queries.Summary).Scan(&report.IDs, &report.Effects, &report.Surplus); err != nil {
		return err
	}
	if err := tx.QueryRowContext(ctx, queries.Without).Scan(&report.Without); err != nil {
		return err
	}
	rows, err := tx.QueryContext(ctx, queries.Duplicates)
	if err != nil {
		return err
	}
	defer rows.Close()
	report.Duplicates = []auditDuplicate{}
	for rows.Next() {
		found := auditDuplicate{ID: make([]string, len(a.by))}
		into := make([]any, 0, len(a.by)+1)
		for i := range found.ID {
			into = append(into, &found.ID[i])
		}
		if err := rows.Scan(append(into, &found.Effects)...); err != nil {
			return err
		}
		for i, value := range found.ID {
			found.ID[i] = shownID(value)
		}
		report.Duplicates = append(report.Duplicates, found)
	}
	return rows.Err()
}

// shownID is an ID as people and JSON can read it: one of bytes, as in a column of
// BINARY(16), is shown in hexadecimal digits.
func shownID(value string) string {
	unreadable := func(c rune) bool { return !unicode.IsPrint(c) }
	if utf8.ValidString(value) && !strings.ContainsFunc(value, unreadable) {
		return value
	}
	return "0x" + hex.EncodeToString([]byte(value))
}
