package schema

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

// Schema is the tables of one database.
type Schema struct {
	db         *sql.DB
	dialect    sqldb.Dialect
	names      Names
	migrations []migration
	store      database.Store
	provider   *goose.Provider
}

// ErrNotCurrent: tables are missing or old.
var ErrNotCurrent = errors.New("the database schema is not current")

// New prepares the migrations of a database. It does not touch it.
func New(db *sql.DB, dialect sqldb.Dialect, names Names) (*Schema, error) {
	names = names.WithDefaults()
	if err := names.validate(dialect); err != nil {
		return nil, fmt.Errorf("prepare schema: %w", err)
	}
	migrations, err := render(dialect, names)
	if err != nil {
		return nil, fmt.Errorf("prepare schema: %w", err)
	}
	store, version, err := newStore(dialect, names.table(names.Version))
	if err != nil {
		return nil, fmt.Errorf("prepare schema: %w", err)
	}
	list := make([]*goose.Migration, len(migrations))
	for i, m := range migrations {
		list[i] = m.goose(dialect)
	}
	options := []goose.ProviderOption{
		goose.WithStore(store), goose.WithDisableGlobalRegistry(true), goose.WithGoMigrations(list...),
	}
	if locker, err := newLocker(dialect, version); err != nil {
		return nil, fmt.Errorf("prepare schema: %w", err)
	} else if locker != nil {
		options = append(options, goose.WithSessionLocker(locker))
	}
	provider, err := goose.NewProvider(goose.DialectCustom, db, nil, options...)
	if err != nil {
		return nil, fmt.Errorf("prepare schema: %w", err)
	}
	return &Schema{db: db, dialect: dialect, names: names, migrations: migrations, store: store, provider: provider}, nil
}

// Migration is the state of one migration.
type Migration struct {
	Version int64
	// Name is the file's: "0001_inbox".
	Name string
	// AppliedAt is zero while it is pending.
	AppliedAt time.Time
}

// Up runs the migrations that are pending and returns them. Several processes may
// call it at the same time: one runs them, the others wait for it.
func (s *Schema) Up(ctx context.Context) ([]Migration, error) {
	if err := s.createSchema(ctx); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(patience); ; {
		results, err := s.provider.Up(ctx)
		if err == nil {
			var applied []Migration
			for _, result := range results {
				applied = append(applied, Migration{result.Source.Version, s.name(result.Source.Version), time.Now()})
			}
			return applied, nil
		}
		// SQLite has no lock to hold around it all, and goose looks at the version table
		// before it locks, which MySQL shows while its first row is missing. Of two
		// processes one finds the other's table or row, and starts again.
		if s.dialect == sqldb.Postgres || ctx.Err() != nil || time.Now().After(deadline) {
			return nil, fmt.Errorf("migrate database: %w", err)
		}
		time.Sleep(10*time.Millisecond + rand.N(20*time.Millisecond))
	}
}

// patience is how long Up starts again after what another process may have caused.
const patience = 2 * time.Second

func (s *Schema) name(version int64) string {
	for _, m := range s.migrations {
		if m.version == version {
			return m.name
		}
	}
	return fmt.Sprint(version)
}

// createSchema creates the configured schema where it is missing. A user without
// the right to do so is not asked for it while the schema is there.
//
// Two processes may both find it missing. PostgreSQL's IF NOT EXISTS does not see what
// another transaction is creating either: the second waits for the first one's end and
// then fails, so after an error the schema is looked for once more. When the first one
// rolled back, the second has created it.
func (s *Schema) createSchema(ctx context.Context) error {
	if s.names.Schema == "" {
		return nil
	}
	found, err := s.hasSchema(ctx)
	if err != nil || found {
		return err
	}
	if _, err := s.db.ExecContext(ctx, "CREATE SCHEMA IF NOT EXISTS "+s.dialect.QuoteName(s.names.Schema)); err != nil {
		if found, _ := s.hasSchema(ctx); found {
			return nil
		}
		return fmt.Errorf("create schema %s: %w", s.names.Schema, err)
	}
	return nil
}

func (s *Schema) hasSchema(ctx context.Context) (bool, error) {
	var found int
	query := s.dialect.Rebind(`SELECT count(*) FROM information_schema.schemata WHERE schema_name = ?`)
	if err := s.db.QueryRowContext(ctx, query, s.names.Schema).Scan(&found); err != nil {
		return false, fmt.Errorf("look for schema %s: %w", s.names.Schema, err)
	}
	return found > 0, nil
}

// Status lists all migrations. It only reads.
func (s *Schema) Status(ctx context.Context) ([]Migration, error) {
	applied := map[int64]time.Time{}
	rows, err := s.store.ListMigrations(ctx, s.db)
	if err != nil && !sqldb.IsMissing(err) { // no version table: nothing has run
		return nil, fmt.Errorf("read schema version: %w", err)
	}
	for _, row := range rows {
		if row.IsApplied {
			applied[row.Version] = time.Time{}
		}
	}
	var list []Migration
	for _, m := range s.migrations {
		state := Migration{Version: m.version, Name: m.name}
		if _, done := applied[m.version]; done {
			result, err := s.store.GetMigration(ctx, s.db, m.version)
			if err != nil {
				return nil, fmt.Errorf("read schema version: %w", err)
			}
			state.AppliedAt = result.Timestamp
		}
		list = append(list, state)
	}
	return list, nil
}

// Check reports migrations that are pending as an ErrNotCurrent that says what to
// run. It only reads. A database migrated by a later version is current: a later
// version only adds.
func (s *Schema) Check(ctx context.Context) error {
	list, err := s.Status(ctx)
	if err != nil {
		return err
	}
	pending := 0
	for _, m := range list {
		if m.AppliedAt.IsZero() {
			pending++
		}
	}
	if pending == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d of its %d migrations have not run: run `hapax migrate up`, or apply the output of `hapax migrate sql`, or set sql.migrate: auto", ErrNotCurrent, pending, len(list))
}

// CheckNames reports an inbox or an outbox that is not there although the migrations have
// run: they ran under other names, of which a database has one set. Up cannot mend that.
// It only reads; a table that this user may not read is there.
func (s *Schema) CheckNames(ctx context.Context) error {
	for _, table := range []sqldb.Table{s.names.InboxTable(), s.names.OutboxTable()} {
		name := s.dialect.Quote(table)
		rows, err := s.db.QueryContext(ctx, "SELECT 1 FROM "+name+" LIMIT 0")
		if err == nil {
			err = errors.Join(rows.Err(), rows.Close())
		}
		if err != nil && sqldb.IsMissing(err) {
			return fmt.Errorf("table %s is missing, but the migrations of its database have run: under other names, or it was dropped: a database has its tables under one set of names, so set sql.inbox.table and sql.outbox.table to those, or give this service a database or a sql.schema of its own", name)
		}
	}
	return nil
}
