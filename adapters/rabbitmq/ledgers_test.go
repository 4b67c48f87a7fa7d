package rabbitmq_test

import (
	"context"
	"errors"
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

// openLedger opens the ledger of a consumer process, and says how to close what is
// below it.
func (w workerSettings) openLedger(ctx context.Context) (dedup.Ledger, func(), error) {
	if address, found := strings.CutPrefix(w.Ledger, "redis://"); found {
		address, _, _ = strings.Cut(address, "/")
		client, err := redis.Connect(ctx, redis.Config{Addresses: []string{address}, Timeout: 2 * time.Second})
		if err != nil {
			return nil, nil, err
		}
		store, err := redisledger.New(client, redisledger.Config{Window: time.Hour, Prefix: w.Topic})
		if err != nil {
			return nil, nil, err
		}
		return coalesce.New(store), func() { _ = client.Close() }, nil
	}
	if w.Ledger != "" {
		db, dialect, err := sqldb.OpenWith(ctx, w.Ledger, sqldb.Options{MaxConns: 4})
		if err != nil {
			return nil, nil, err
		}
		store, err := database.Open(ctx, db, database.Dialect(dialect), database.Config{Window: time.Hour, Table: ledgerTable(w.Topic)})
		if err != nil {
			return nil, nil, errors.Join(err, db.Close())
		}
		return coalesce.New(store), func() { _ = db.Close() }, nil
	}
	db, _, err := sqldb.Open(ctx, filepath.Join(w.Folder, "ledger"))
	if err != nil {
		return nil, nil, err
	}
	store, err := sqliteledger.Open(ctx, db, sqliteledger.Config{Window: time.Hour})
	if err != nil {
		return nil, nil, err
	}
	return coalesce.New(store), func() { _ = db.Close() }, nil
}

func ledgerTable(topic string) string { return strings.ReplaceAll(topic, ".", "_") }

// prepareLedger makes the tables of a ledger in a database, for the time of a test.
func (s scenario) prepareLedger(t *testing.T) {
	t.Helper()
	if s.store == "" || s.store == servers.Redis || s.Plain {
		return
	}
	url, table := servers.Require(t, s.store).URL, ledgerTable(s.Topic)
	db, dialect, err := sqldb.Open(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	names := schema.Names{Inbox: table + "_inbox", Outbox: table + "_outbox", Ledger: table, Version: table + "_schema"}
	made, err := schema.New(db, dialect, names)
	require.NoError(t, err)
	_, err = made.Up(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		rows, err := db.QueryContext(ctx, `SELECT table_name FROM information_schema.tables WHERE table_name LIKE '`+strings.ReplaceAll(table, "_", `|_`)+`%' ESCAPE '|'`)
		require.NoError(t, err)
		var tables []string
		for rows.Next() {
			var name string
			require.NoError(t, rows.Scan(&name))
			tables = append(tables, name)
		}
		require.NoError(t, rows.Err())
		for _, name := range tables {
			_, err := db.ExecContext(ctx, `DROP TABLE IF EXISTS `+name+` CASCADE`)
			require.NoError(t, err)
		}
	})
}
