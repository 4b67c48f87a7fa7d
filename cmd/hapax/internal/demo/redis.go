package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/adapters/redis/plain"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/servers"
)

// redisLease is short, so that a killed consumer's messages are taken over soon.
const redisLease = 2 * time.Second

// redisBroker runs each lane in a database of its own, which it empties first if it was the demo's before.
// Fulfilment runs by the strategy xack; shipping writes its rows through the inbox.
var redisBroker = broker{
	name:    redis.Name,
	plainBy: "the official watermill-redisstream",
	config: func(folder, lane string) *config.Config {
		cfg := config.Default()
		cfg.Service, cfg.Broker = "black-friday", redis.Name
		cfg.Redis.Addresses = []string{"127.0.0.1:6379"}
		if server, found := servers.Find(servers.Redis); found {
			cfg.Redis.Addresses = server.Hosts[:1]
		}
		cfg.Redis.DB = 14
		if lane == laneHapax {
			cfg.Redis.DB = 15
		}
		cfg.Redis.Lease = config.Duration(redisLease)
		cfg.SQL.DSN = config.DSN(shopFile(folder, lane))
		fulfilment := cfg.Handler(topicOrders)
		fulfilment.Strategy = dedup.StrategyXAck
		cfg.Handlers = map[string]config.Handler{topicOrders: fulfilment}
		return cfg
	},
	prepare: takeRedis,
	clear:   takeRedis, // empty, but for the note that it is the demo's
	plain: func(_ context.Context, cfg *config.Config, _ *slog.Logger) (*plainEnds, error) {
		server := plain.Server{Address: cfg.Redis.Addresses[0], DB: cfg.Redis.DB}
		publisher, err := server.Publisher()
		if err != nil {
			return nil, err
		}
		return &plainEnds{
			subscribe: func(group string) (message.Subscriber, error) { return server.Subscriber(group, redisLease) },
			publisher: publisher,
			close:     publisher.Close,
		}, nil
	},
	shop:    shopFile,
	outputs: redisOutputs,
	left:    redisLeft,
}

func takeRedis(ctx context.Context, cfg *config.Config) error {
	return plain.Server{Address: cfg.Redis.Addresses[0], DB: cfg.Redis.DB}.Take(ctx)
}

func redisOutputs(ctx context.Context, cfg *config.Config) ([]fault.Effect, error) {
	payloads, err := plain.Server{Address: cfg.Redis.Addresses[0], DB: cfg.Redis.DB}.Payloads(ctx, topicShipping)
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", topicShipping, err)
	}
	found := make([]fault.Effect, len(payloads))
	for i, payload := range payloads {
		var shipment Shipment
		if err := json.Unmarshal(payload, &shipment); err != nil {
			return nil, fmt.Errorf("read entry %d of stream %s: %w", i, topicShipping, err)
		}
		found[i] = shipment.effect("")
		found[i].Position = int64(i)
	}
	return found, nil
}

func redisLeft(ctx context.Context, _ *config.Config, open adapters.Broker) (map[string]int64, error) {
	groups, err := open.(*redis.Broker).Stats(ctx, topicOrders, topicShipping)
	left := map[string]int64{}
	for _, group := range groups {
		left[group.Topic+" "+group.Group+" backlog"] = group.Backlog
		left[group.Topic+" "+group.Group+" pending"] = group.Pending
	}
	return left, err
}
