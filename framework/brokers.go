package framework

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqlite"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// OpenBroker connects to the broker of a config. The caller closes it.
func OpenBroker(ctx context.Context, cfg *config.Config, logger *slog.Logger) (adapters.Broker, error) {
	switch cfg.Broker {
	case "sqlite":
		return sqlite.Open(ctx, sqlite.Config{
			Path:          cfg.SQLite.Path,
			Synchronous:   sqldb.Synchronous(cfg.SQLite.Synchronous),
			LeaseDuration: time.Duration(cfg.SQLite.Lease),
			Retention:     max(time.Duration(cfg.SQLite.Retention), 1), // 0 there is the adapter's default
			MaxPayload:    int(cfg.SQLite.MaxPayload),
			Logger:        logger,
		})
	default:
		return nil, fmt.Errorf("%s: this version has no adapter for broker %q: expected sqlite", cfg.Where("broker"), cfg.Broker)
	}
}
