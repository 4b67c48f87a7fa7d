package schema

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"path"
	"strconv"
	"strings"
	"text/template"

	"github.com/pressly/goose/v3"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

//go:embed migrations
var files embed.FS

// migration is one file, rendered.
type migration struct {
	version    int64
	name       string
	statements []string
	text       string
}

// render reads a dialect's files with the names filled in.
func render(dialect sqldb.Dialect, names Names) ([]migration, error) {
	folder := path.Join("migrations", string(dialect))
	entries, err := files.ReadDir(folder) // sorted by name
	if err != nil {
		return nil, fmt.Errorf("dialect %q has no migrations: expected %s, %s or %s", dialect, sqldb.Postgres, sqldb.MySQL, sqldb.SQLite)
	}
	functions := template.FuncMap{
		"table": func(name string, suffix ...string) string {
			return dialect.Quote(names.table(name).With(strings.Join(suffix, "")))
		},
		"index": func(name string, suffix ...string) string {
			return dialect.QuoteName(name + strings.Join(suffix, ""))
		},
	}
	var list []migration
	for _, entry := range entries {
		number, _, _ := strings.Cut(entry.Name(), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("migration %s: expected a name like 0007_what.sql", entry.Name())
		}
		content, err := files.ReadFile(path.Join(folder, entry.Name()))
		if err != nil {
			return nil, err
		}
		parsed, err := template.New(entry.Name()).Funcs(functions).Option("missingkey=error").Parse(string(content))
		if err != nil {
			return nil, fmt.Errorf("read migration: %w", err)
		}
		var text strings.Builder
		if err := parsed.Execute(&text, names); err != nil {
			return nil, fmt.Errorf("render migration: %w", err)
		}
		list = append(list, migration{
			version: version, name: strings.TrimSuffix(entry.Name(), ".sql"),
			text: text.String(), statements: statements(text.String()),
		})
	}
	return list, nil
}

// statements splits a text at the semicolons that end a line. What is only a
// comment is none: MySQL refuses to run nothing.
func statements(text string) (list []string) {
	for part := range strings.SplitSeq(text+"\n", ";\n") {
		for line := range strings.SplitSeq(part, "\n") {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "--") {
				list = append(list, strings.TrimSpace(part))
				break
			}
		}
	}
	return list
}

// goose returns the migration as the library runs it.
func (m migration) goose(dialect sqldb.Dialect) *goose.Migration {
	run := func(ctx context.Context, on execer) error {
		for _, statement := range m.statements {
			if _, err := on.ExecContext(ctx, statement); err != nil {
				first, _, _ := strings.Cut(statement, "\n")
				return fmt.Errorf("migration %s: %s …: %w", m.name, first, err)
			}
		}
		return nil
	}
	up := &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error { return run(ctx, tx) }}
	if dialect == sqldb.MySQL { // its DDL commits by itself
		up = &goose.GoFunc{RunDB: func(ctx context.Context, db *sql.DB) error { return run(ctx, db) }}
	}
	return goose.NewGoMigration(m.version, up, nil)
}

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}
