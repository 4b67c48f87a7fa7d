package sqldb

import (
	"fmt"
	"strconv"
	"strings"
)

// Dialect names the SQL that a database speaks.
type Dialect string

const (
	// Postgres is PostgreSQL 14 or later.
	Postgres Dialect = "postgres"
	// MySQL is MySQL 8 or MariaDB 10.5, or later.
	MySQL Dialect = "mysql"
	// SQLite is the embedded database.
	SQLite Dialect = "sqlite"
)

// Table is a table's name, in a schema if that is not "": a schema of
// PostgreSQL, a database of MySQL. SQLite has none.
type Table struct {
	Schema string
	Name   string
}

// Validate reports names that cannot be used on the dialect. Every Table that
// comes from a config goes through it before it meets a query.
func (t Table) Validate(dialect Dialect) error {
	if err := ValidateIdentifier(t.Name); err != nil {
		return fmt.Errorf("table %w", err)
	}
	if t.Schema == "" {
		return nil
	}
	if dialect == SQLite {
		return fmt.Errorf("schema %q: SQLite has no schemas: remove it", t.Schema)
	}
	if err := ValidateIdentifier(t.Schema); err != nil {
		return fmt.Errorf("schema %w", err)
	}
	return nil
}

// With returns the table beside this one whose name has a suffix.
func (t Table) With(suffix string) Table { return Table{t.Schema, t.Name + suffix} }

// Quote writes the name into SQL, with the schema.
func (d Dialect) Quote(t Table) string {
	if t.Schema == "" {
		return d.QuoteName(t.Name)
	}
	return d.QuoteName(t.Schema) + "." + d.QuoteName(t.Name)
}

// QuoteName quotes one identifier, so that a reserved word is a name too.
func (d Dialect) QuoteName(name string) string {
	quote := `"`
	if d == MySQL {
		quote = "`"
	}
	return quote + strings.ReplaceAll(name, quote, quote+quote) + quote
}

// Placeholder is parameter number n, counted from 1.
func (d Dialect) Placeholder(n int) string {
	if d == Postgres {
		return "$" + strconv.Itoa(n)
	}
	return "?"
}

// Tuples writes rows of placeholders for a multi-row statement, the first of
// them parameter number first: "(?, ?), (?, ?)".
func (d Dialect) Tuples(first, rows, columns int) string {
	var text strings.Builder
	for row := range rows {
		if row > 0 {
			text.WriteString(", ")
		}
		text.WriteByte('(')
		for column := range columns {
			if column > 0 {
				text.WriteString(", ")
			}
			text.WriteString(d.Placeholder(first + row*columns + column))
		}
		text.WriteByte(')')
	}
	return text.String()
}

// Rebind replaces the ? of a query by the dialect's placeholders. Question marks
// in literals are replaced too, so it is for queries without any.
func (d Dialect) Rebind(query string) string {
	if d != Postgres {
		return query
	}
	var text strings.Builder
	number := 0
	for _, c := range []byte(query) {
		if c != '?' {
			text.WriteByte(c)
			continue
		}
		number++
		text.WriteString(d.Placeholder(number))
	}
	return text.String()
}

// ValidateIdentifier accepts what can be written into SQL as a table or schema
// name without quoting: a letter or underscore, then up to 62 letters, digits
// or underscores.
func ValidateIdentifier(name string) error {
	valid := len(name) > 0 && len(name) <= 63
	for i, c := range []byte(name) {
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		valid = valid && (letter || i > 0 && '0' <= c && c <= '9')
	}
	if !valid {
		return fmt.Errorf("identifier %q is not valid: expected a letter or _, then letters, digits or _, 63 at most", name)
	}
	return nil
}
