package demo

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// The variant with --sql: the Hapax lane has a database beside its broker. Both
// stages run by the strategy inbox; outputs leave through the outbox and its relay.

// shopIdle is short, so that nobody waits long for a consumer that was stopped.
const shopIdle = 3 * time.Second

// sqlFile has the DSN for the lane's processes: it may carry a password, which
// arguments would show to everybody on the machine.
func sqlFile(folder string) string { return filepath.Join(folder, "sql-dsn") }

// placeSQL creates a schema (a database on MySQL) of its own for the run and
// writes its DSN to the run's folder. drop removes it again.
func placeSQL(ctx context.Context, folder, dsn string) (drop func() error, err error) {
	name := "hapax_demo_" + strings.ToLower(rand.Text()[:8])
	db, dialect, err := sqldb.Open(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("--sql: %w", err)
	}
	create, remove, place := "", "", dsn
	switch dialect {
	case sqldb.Postgres:
		create, remove, place = "CREATE SCHEMA "+name, "DROP SCHEMA "+name+" CASCADE", inSchema(dsn, name)
	case sqldb.MySQL:
		create, remove, place = "CREATE DATABASE "+name, "DROP DATABASE "+name, inDatabase(dsn, name)
	case sqldb.SQLite: // its file is the user's, and stays
		if err := unused(ctx, db); err != nil {
			return nil, errors.Join(fmt.Errorf("--sql: %w", err), db.Close())
		}
	}
	drop = func() error {
		if remove != "" {
			_, err = db.ExecContext(context.WithoutCancel(ctx), remove)
		}
		return errors.Join(err, db.Close())
	}
	if create != "" {
		if _, err := db.ExecContext(ctx, create); err != nil {
			return nil, errors.Join(fmt.Errorf("--sql: %s: %w", strings.ToLower(create), err), db.Close())
		}
	}
	if err := os.WriteFile(sqlFile(folder), []byte(place), 0o600); err != nil {
		return nil, errors.Join(err, drop())
	}
	return drop, nil
}

// unused refuses a file of an earlier run: with the same seed, its marks would make
// duplicates of all orders, and those would count as lost.
func unused(ctx context.Context, db *sql.DB) error {
	var tables int
	err := db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE name = 'effects'`).Scan(&tables)
	if err == nil && tables > 0 {
		err = errors.New("the SQLite file holds the shipments of an earlier run: remove it, or name another file")
	}
	return err
}

// inSchema makes a schema of PostgreSQL the one that names without a schema mean.
func inSchema(dsn, schema string) string {
	if !strings.Contains(dsn, "://") {
		return dsn + " search_path=" + schema
	}
	separator := "?"
	if strings.Contains(dsn, "?") {
		separator = "&"
	}
	return dsn + separator + "search_path=" + url.QueryEscape(schema)
}

// inDatabase replaces the database's name: what is between the last / and the ?.
func inDatabase(dsn, name string) string {
	address, options, found := strings.Cut(dsn, "?")
	address = address[:strings.LastIndex(address, "/")+1] + name
	if found {
		return address + "?" + options
	}
	return address
}

// withSQL is the broker with the run's database beside it, if the run has one.
func (b broker) withSQL(folder string) (broker, error) {
	text, err := os.ReadFile(sqlFile(folder))
	if errors.Is(err, os.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return b, err
	}
	dsn := config.DSN(text)
	configure, left := b.config, b.left
	b.config = func(folder, lane string) *config.Config {
		cfg := configure(folder, lane)
		if lane == laneHapax {
			cfg.SQL.DSN, cfg.Handlers = dsn, nil
			// A killed consumer's transaction ends with its connection, a stopped
			// one's after this.
			cfg.SQL.IdleTimeout = config.Duration(shopIdle)
		}
		return cfg
	}
	var shop *sql.DB
	b.openShop = func(ctx context.Context, folder, lane string) (*sql.DB, error) {
		if lane != laneHapax {
			return effects.Open(ctx, b.shop(folder, lane))
		}
		shop, err = openShop(ctx, dsn)
		return shop, err
	}
	b.left = func(ctx context.Context, cfg *config.Config, open adapters.Broker) (map[string]int64, error) {
		found, err := left(ctx, cfg, open)
		if shop == nil || err != nil {
			return found, err
		}
		var waiting int64
		err = shop.QueryRowContext(ctx, `SELECT count(*) FROM hapax_outbox WHERE state <> 1`).Scan(&waiting)
		if found == nil {
			found = map[string]int64{}
		}
		found["outbox"] = waiting
		return found, err
	}
	// The relay's messages are at least once, each with its event ID.
	b.repeats = true
	b.insert = func(ctx context.Context, tx *sql.Tx, effect fault.Effect) error {
		return effects.Insert(ctx, rebinding{tx, dsn.Driver() == "postgres"}, effect)
	}
	return b, nil
}

// rebinding writes the placeholders of PostgreSQL.
type rebinding struct {
	effects.Execer
	numbered bool
}

// ExecContext implements effects.Execer.
func (r rebinding) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if r.numbered {
		query = sqldb.Postgres.Rebind(query)
	}
	return r.Execer.ExecContext(ctx, query, args...)
}

// openShop opens the run's database and makes the tables of effects.
func openShop(ctx context.Context, dsn config.DSN) (*sql.DB, error) {
	db, dialect, err := sqldb.Open(ctx, dsn.Reveal())
	if err != nil {
		return nil, err
	}
	number := map[sqldb.Dialect]string{
		sqldb.Postgres: "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
		sqldb.MySQL:    "bigint AUTO_INCREMENT PRIMARY KEY",
		sqldb.SQLite:   "INTEGER PRIMARY KEY AUTOINCREMENT",
	}[dialect]
	for _, statement := range []string{
		`CREATE TABLE IF NOT EXISTS effects (seq ` + number + `, event_id VARCHAR(255) NOT NULL, event_key VARCHAR(255) NOT NULL,
			n BIGINT NOT NULL, consumer VARCHAR(255) NOT NULL, at BIGINT NOT NULL)`,
		`CREATE TABLE IF NOT EXISTS deliveries (event_id VARCHAR(255) NOT NULL, copy INTEGER NOT NULL, consumer VARCHAR(255) NOT NULL,
			attempt INTEGER NOT NULL, at BIGINT NOT NULL)`,
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return nil, errors.Join(fmt.Errorf("make tables of effects: %w", err), db.Close())
		}
	}
	return db, nil
}
