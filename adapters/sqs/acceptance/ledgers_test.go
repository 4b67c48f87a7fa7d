package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/hapax-go/hapax/adapters/redis"
	redisledger "github.com/hapax-go/hapax/adapters/redis/ledger"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/coalesce"
	sqliteledger "github.com/hapax-go/hapax/dedup/ledger/sqlite"
	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// The ledgers that consumers can have.
const (
	inSQLite = "sqlite"
	inRedis  = "redis"
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
	}
	return nil, nil, fmt.Errorf("no ledger %q", kind)
}

func requireLedger(t *testing.T, kind string) {
	if kind == inRedis {
		servers.Require(t, servers.Redis)
	}
}
