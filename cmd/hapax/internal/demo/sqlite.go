package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqlite"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// sqliteBroker is the embedded broker: a file for each lane. There is no official
// Watermill adapter for it, so the plain lane runs Hapax's own without
// deduplication.
var sqliteBroker = broker{
	name:    "sqlite",
	plainBy: "the same SQLite adapter without deduplication",
	config: func(folder, lane string) *config.Config {
		cfg := config.Default()
		cfg.Service = "black-friday"
		cfg.SQLite.Path = filepath.Join(folder, lane+".db")
		// Short, so that a killed consumer's messages are taken over soon.
		cfg.SQLite.Lease = config.Duration(2 * time.Second)
		return cfg
	},
	plain: func(ctx context.Context, cfg *config.Config, logger *slog.Logger) (*plainEnds, error) {
		broker, err := framework.OpenBroker(ctx, cfg, logger)
		if err != nil {
			return nil, err
		}
		return &plainEnds{
			subscribe: func(group string) (message.Subscriber, error) {
				return broker.Subscriber(adapters.Subscription{Group: group})
			},
			publisher: broker.Publisher(),
			close:     broker.Close,
		}, nil
	},
	shop: func(folder, lane string) string {
		if lane == laneHapax {
			return filepath.Join(folder, lane+".db") // the broker's own file
		}
		return filepath.Join(folder, lane+"-shop.db")
	},
	outputs: sqliteOutputs,
	left:    sqliteLeft,
}

// sqliteOutputs reads the file's public view of its messages.
func sqliteOutputs(ctx context.Context, cfg *config.Config) (found []fault.Effect, err error) {
	db, _, err := sqldb.Open(ctx, cfg.SQLite.Path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.QueryContext(ctx, `SELECT number, payload FROM hapax_log WHERE topic = ? ORDER BY number`, topicShipping)
	if err != nil {
		return nil, fmt.Errorf("read topic %s: %w", topicShipping, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var number int64
		var payload []byte
		if err := rows.Scan(&number, &payload); err != nil {
			return nil, fmt.Errorf("read topic %s: %w", topicShipping, err)
		}
		var shipment Shipment
		if err := json.Unmarshal(payload, &shipment); err != nil {
			return nil, fmt.Errorf("read message %d of topic %s: %w", number, topicShipping, err)
		}
		effect := shipment.effect("")
		effect.Position = number
		found = append(found, effect)
	}
	return found, rows.Err()
}

func sqliteLeft(ctx context.Context, _ *config.Config, open adapters.Broker) (map[string]int64, error) {
	groups, err := open.(*sqlite.Broker).Stats(ctx)
	left := map[string]int64{}
	for _, group := range groups {
		left[group.Group+" backlog"] = group.Backlog
		left[group.Group+" pending"] = group.Pending
	}
	return left, err
}
