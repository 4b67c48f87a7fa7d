package rabbitmq_test

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/hapax-go/hapax/adapters/redis"
	redisledger "github.com/hapax-go/hapax/adapters/redis/ledger"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/coalesce"
	sqliteledger "github.com/hapax-go/hapax/dedup/ledger/sqlite"
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

func (w workerSettings) lease() time.Duration {
	if w.Lease > 0 {
		return w.Lease
	}
	return 2 * time.Second
}
