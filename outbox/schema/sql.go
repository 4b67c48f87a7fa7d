package schema

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/pressly/goose/v3/database"
)

// SQL returns all migrations as plain SQL, for people who run their own. It ends
// with what notes that they have run, so that Check is content.
func (s *Schema) SQL() (string, error) {
	var text strings.Builder
	if s.names.Schema != "" {
		fmt.Fprintf(&text, "CREATE SCHEMA IF NOT EXISTS %s;\n\n", s.dialect.QuoteName(s.names.Schema))
	}
	for _, m := range s.migrations {
		fmt.Fprintf(&text, "-- migration %s\n\n%s\n", m.name, m.text)
	}
	text.WriteString("-- what has run\n\n")
	notes := &recorder{}
	if err := s.store.CreateVersionTable(context.Background(), notes); err != nil {
		return "", fmt.Errorf("write schema: %w", err)
	}
	for _, m := range append([]migration{{}}, s.migrations...) { // the library begins with a version 0
		if err := s.store.Insert(context.Background(), notes, database.InsertRequest{Version: m.version}); err != nil {
			return "", fmt.Errorf("write schema: %w", err)
		}
	}
	text.WriteString(strings.Join(notes.statements, ";\n"))
	text.WriteString(";\n")
	return text.String(), nil
}

// recorder writes statements down instead of running them.
type recorder struct {
	database.DBTxConn
	statements []string
}

// ExecContext implements database.DBTxConn.
func (r *recorder) ExecContext(_ context.Context, query string, args ...any) (sql.Result, error) {
	for i, arg := range args {
		value := fmt.Sprint(arg) // a version, or whether it was applied
		query = strings.Replace(strings.Replace(query, fmt.Sprintf("$%d", i+1), value, 1), "?", value, 1)
	}
	r.statements = append(r.statements, strings.TrimSuffix(strings.Join(strings.Fields(query), " "), ";"))
	return nil, nil
}
