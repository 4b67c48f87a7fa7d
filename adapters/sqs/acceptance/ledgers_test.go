package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/redis"
	redisledger "github.com/hapax-go/hapax/adapters/redis/ledger"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/coalesce"
	"github.com/hapax-go/hapax/dedup/ledger/database"
	sqliteledger "github.com/hapax-go/hapax/dedup/ledger/sqlite"
	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/outbox/schema"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// The ledgers that consumers can have.
const (
	inSQLite = "sqlite"
	inRedis  = "redis"
	inSQL    = "sql" // PostgreSQL
)

// openLedger opens the ledger that all consumers of a run share.
func openLedger(ctx context.Context, kind, folder, name string) (dedup.Ledger, func() error, error) {
	switch kind {
	case inSQLite:
		db, err := sqldb.OpenSQLite(ctx, filepath.Join(folder, "ledger.db"), sqldb.Normal)
		if err != nil {
			return nil, nil, err
		}
		store, err := sqliteledger.Open(ctx, db, sqliteledger.Config{Window: time.Hour})
		if err != nil {
			return nil, nil, errors.Join(err, db.Close())
		}
		ledger := coalesce.New(store)
		return ledger, func() error { return errors.Join(ledger.Close(), db.Close()) }, nil
	case inRedis:
		server, found := servers.Find(servers.Redis)
		if !found {
			return nil, nil, errors.New("no redis")
		}
		connection, err := redis.ParseURL(server.URL)
		if err != nil {
			return nil, nil, err
		}
		store, err := redisledger.Open(ctx, connection, redisledger.Config{Window: time.Hour, Prefix: name})
		if err != nil {
			return nil, nil, err
		}
		ledger := coalesce.New(store)
		return ledger, ledger.Close, nil
	case inSQL:
		server, found := servers.Find(servers.Postgres)
		if !found {
			return nil, nil, errors.New("no postgres")
		}
		db, _, err := sqldb.Open(ctx, server.URL)
		if err != nil {
			return nil, nil, err
		}
		store, err := database.Open(ctx, db, database.Postgres, database.Config{Window: time.Hour, Table: schemaOf(name) + ".hapax_ledger", Logger: quiet})
		if err != nil {
			return nil, nil, errors.Join(err, db.Close())
		}
		ledger := coalesce.New(store)
		return ledger, func() error { return errors.Join(ledger.Close(), db.Close()) }, nil
	}
	return nil, nil, fmt.Errorf("no ledger %q", kind)
}

// schemaOf names a run's own schema.
func schemaOf(topic string) string { return strings.ReplaceAll(topic, ".", "_") }

// prepareLedger makes what consumers expect, and removes it at the end.
func prepareLedger(t *testing.T, kind, name string) {
	switch kind {
	case inRedis:
		servers.Require(t, servers.Redis)
	case inSQL:
		db, dialect, err := sqldb.Open(t.Context(), servers.Require(t, servers.Postgres).URL)
		require.NoError(t, err)
		t.Cleanup(func() {
			_, err := db.ExecContext(context.Background(), `DROP SCHEMA `+schemaOf(name)+` CASCADE`)
			require.NoError(t, errors.Join(err, db.Close()))
		})
		tables, err := schema.New(db, dialect, schema.Names{Schema: schemaOf(name)})
		require.NoError(t, err)
		_, err = tables.Up(t.Context())
		require.NoError(t, err)
	}
}
