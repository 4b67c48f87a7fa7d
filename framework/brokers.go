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

// OpenBroker connects to the broker of a config. The caller closes it. It knows topics by
// their names at the broker: the topics block is applied by a Service and an Operator.
func OpenBroker(ctx context.Context, cfg *config.Config, logger *slog.Logger) (adapters.Broker, error) {
	switch cfg.Broker {
	case "sqlite":
		broker, err := sqlite.Open(ctx, sqlite.Config{
			Path:          cfg.SQLitePath(),
			Synchronous:   sqldb.Synchronous(cfg.SQLite.Synchronous),
			LeaseDuration: time.Duration(cfg.SQLite.Lease),
			Retention:     max(time.Duration(cfg.SQLite.Retention), 1), // 0 there is the adapter's default
			MaxPayload:    int(cfg.SQLite.MaxPayload),
			Logger:        logger,
		})
		if err != nil {
			return nil, err // a nil *sqlite.Broker would be a Broker that is not nil
		}
		return broker, nil
	case "rabbitmq":
		return openRabbitMQ(ctx, cfg, logger)
	case "kafka":
		return openKafka(ctx, cfg, logger)
	case "sqs", "sqs-fifo":
		return openSQS(ctx, cfg, logger)
	case "redis":
		return openRedis(ctx, cfg, logger)
	default:
		return nil, fmt.Errorf("%s: this version has no adapter for broker %q: expected sqlite, kafka, rabbitmq, redis or sqs", cfg.Where("broker"), cfg.Broker)
	}
}
