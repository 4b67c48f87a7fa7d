package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/outbox/schema"
)

// migrateCommand makes the tables of the inbox, the outbox and the ledger.
func migrateCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "migrate",
		Short: "Make the tables of inbox, outbox and ledger in the database of the sql block",
		Long: `Makes the tables of the inbox, the outbox and the ledger in the database of the
sql block. A service does so by itself when it starts, unless hapax.yaml says
sql.migrate: check, for services whose user may not create tables.

Which migrations have run is kept in the table hapax_migrations, apart from those of
the application. Several processes may migrate at the same time.`,
		Example: "  hapax migrate up\n  hapax migrate status\n  hapax migrate sql > hapax.sql",
	}
	command.AddCommand(migrateUp(), migrateStatus(), migrateSQL())
	return command
}

// withSchema opens the database of the sql block for one command.
func withSchema(ctx context.Context, load func() (*config.Config, error), use func(*schema.Schema) error) (err error) {
	cfg, err := load()
	if err != nil {
		return err
	}
	db, dialect, err := framework.OpenDatabase(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tables, err := schema.New(db, dialect, framework.TableNames(cfg))
	if err != nil {
		return err
	}
	return use(tables)
}

type migrationReport struct {
	Version   int64      `json:"version"`
	Name      string     `json:"name"`
	AppliedAt *time.Time `json:"applied_at"`
}

func reportMigrations(list []schema.Migration) []migrationReport {
	reports := make([]migrationReport, len(list))
	for i, m := range list {
		reports[i] = migrationReport{Version: m.Version, Name: m.Name}
		if !m.AppliedAt.IsZero() {
			reports[i].AppliedAt = &m.AppliedAt
		}
	}
	return reports
}

func migrateUp() *cobra.Command {
	command := &cobra.Command{
		Use:     "up",
		Short:   "Run the migrations that are pending",
		Example: "  hapax migrate up\n  DATABASE_URL=file:shop.db hapax migrate up --json",
		Args:    cobra.NoArgs,
	}
	load, asJSON := configFlag(command), jsonFlag(command, "a JSON array of what was run")
	command.RunE = func(command *cobra.Command, _ []string) error {
		return withSchema(command.Context(), load, func(tables *schema.Schema) error {
			applied, err := during(command.ErrOrStderr(), "running migrations", func() ([]schema.Migration, error) { return tables.Up(command.Context()) })
			if err != nil {
				return err
			}
			named := tables.CheckNames(command.Context())
			if *asJSON {
				return errors.Join(printJSON(command.OutOrStdout(), reportMigrations(applied)), named)
			}
			err = named
			if len(applied) == 0 && named == nil {
				_, err = fmt.Fprintln(command.OutOrStdout(), "nothing to do: the schema is current")
			}
			for _, m := range applied {
				_, printing := fmt.Fprintf(command.OutOrStdout(), "applied %s\n", m.Name)
				err = errors.Join(err, printing)
			}
			return err
		})
	}
	return command
}

func migrateStatus() *cobra.Command {
	command := &cobra.Command{
		Use:   "status",
		Short: "List the migrations, and which have run",
		Long: `Lists the migrations, and which have run. It only reads; a SQLite file that is missing
is made, empty, and one that is there is put into WAL mode.

Exit status: 0 the schema is current, 1 it could not be looked at, 2 migrations
are pending.`,
		Example: "  hapax migrate status\n  hapax migrate status --json",
		Args:    cobra.NoArgs,
	}
	load, asJSON := configFlag(command), jsonFlag(command, "a JSON array of all migrations")
	command.RunE = func(command *cobra.Command, _ []string) error {
		return withSchema(command.Context(), load, func(tables *schema.Schema) error {
			list, err := tables.Status(command.Context())
			if err != nil {
				return err
			}
			if *asJSON {
				err = printJSON(command.OutOrStdout(), reportMigrations(list))
			} else {
				err = printMigrations(command.OutOrStdout(), list)
			}
			if pending := tables.Check(command.Context()); err == nil && pending != nil {
				return exitError{pending, exitFound}
			}
			return errors.Join(err, tables.CheckNames(command.Context()))
		})
	}
	return command
}

func printMigrations(out io.Writer, list []schema.Migration) error {
	printed := newTable("migration", "applied")
	for _, m := range list {
		applied := "pending"
		if !m.AppliedAt.IsZero() {
			applied = m.AppliedAt.UTC().Format(time.DateTime)
		}
		printed.AppendRow(table.Row{m.Name, applied})
	}
	return printTable(out, printed)
}

func migrateSQL() *cobra.Command {
	command := &cobra.Command{
		Use:   "sql",
		Short: "Print all migrations as plain SQL, for people who run their own",
		Long: `Prints all migrations as plain SQL, for people who run their own. It ends with
what notes that they have run, so that services and hapax migrate status are
content with it. The database is connected to, since its kind decides about the
SQL, and not changed, but that a SQLite file that is missing is made, empty, and one
that is there is put into WAL mode.`,
		Example: "  hapax migrate sql > db/migrations/0042_hapax.sql",
		Args:    cobra.NoArgs,
	}
	load := configFlag(command)
	command.RunE = func(command *cobra.Command, _ []string) error {
		return withSchema(command.Context(), load, func(tables *schema.Schema) error {
			text, err := tables.SQL()
			if err != nil {
				return err
			}
			_, err = io.WriteString(command.OutOrStdout(), text)
			return err
		})
	}
	return command
}
