package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/rabbitmq"
	"github.com/hapax-go/hapax/adapters/rabbitmq/plain"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/servers"
)

// rabbitAudit is a queue that gets a copy of every shipping request.
const rabbitAudit = "audit"

// rabbitMQBroker runs each lane in a virtual host of its own, named after the run's
// folder: two demos at once do not meet.
// Fulfilment runs by message-id over a ledger in a SQLite file; shipping writes its
// rows through the inbox.
var rabbitMQBroker = broker{
	name:    rabbitmq.Name,
	plainBy: "the official watermill-amqp",
	repeats: true,
	config: func(folder, lane string) *config.Config {
		cfg := config.Default()
		cfg.Service, cfg.Broker = "black-friday", rabbitmq.Name
		cfg.RabbitMQ.URL = "amqp://guest:guest@127.0.0.1:5672/"
		if server, found := servers.Find(servers.RabbitMQ); found {
			cfg.RabbitMQ.URL = config.DSN(server.URL)
		}
		cfg.RabbitMQ.VHost = filepath.Base(folder) + "-" + lane
		cfg.SQL.DSN = config.DSN(shopFile(folder, lane))
		cfg.Dedup.Ledger.Store = "sqlite"
		cfg.Dedup.Ledger.DSN = config.DSN(filepath.Join(folder, lane+"-ledger.db"))
		// Short, so that a killed consumer's events are taken over soon.
		cfg.Dedup.Lease = config.Duration(2 * time.Second)
		fulfilment := cfg.Handler(topicOrders)
		fulfilment.Strategy = dedup.StrategyMessageID
		cfg.Handlers = map[string]config.Handler{topicOrders: fulfilment}
		return cfg
	},
	prepare: prepareRabbit,
	clear: func(ctx context.Context, cfg *config.Config) error {
		return rabbitManagement().Delete(ctx, cfg.RabbitMQ.VHost)
	},
	plain: func(_ context.Context, cfg *config.Config, _ *slog.Logger) (*plainEnds, error) {
		server := rabbitServer(cfg)
		publisher, err := server.Publisher()
		if err != nil {
			return nil, err
		}
		return &plainEnds{
			subscribe: func(group string) (message.Subscriber, error) { return server.Subscriber(group, 256) },
			publisher: publisher,
			close:     publisher.Close,
		}, nil
	},
	shop:    shopFile,
	outputs: rabbitOutputs,
	left:    rabbitLeft,
}

// prepareRabbit makes the lane's virtual host.
func prepareRabbit(ctx context.Context, cfg *config.Config) error {
	if err := rabbitManagement().Recreate(ctx, cfg.RabbitMQ.VHost); err != nil {
		return err
	}
	return rabbitServer(cfg).Declare(topicShipping, rabbitAudit)
}

func rabbitManagement() plain.Management {
	server, _ := servers.Find(servers.RabbitMQ)
	return plain.Management(server.Management)
}

func rabbitServer(cfg *config.Config) plain.Server {
	return plain.Server{URL: cfg.RabbitMQ.URL.Reveal(), VHost: cfg.RabbitMQ.VHost}
}

// rabbitOutputs empties the queue that nobody consumes.
func rabbitOutputs(_ context.Context, cfg *config.Config) ([]fault.Effect, error) {
	copies, err := rabbitServer(cfg).Empty(rabbitAudit)
	if err != nil {
		return nil, fmt.Errorf("read copies of topic %s: %w", topicShipping, err)
	}
	found := make([]fault.Effect, len(copies))
	for i, copied := range copies {
		var shipment Shipment
		if err := json.Unmarshal(copied.Payload, &shipment); err != nil {
			return nil, fmt.Errorf("read copy %d of topic %s: %w", i, topicShipping, err)
		}
		found[i] = shipment.effect("")
		found[i].Identity = copied.Metadata.Get(dedup.MetaEventID)
		found[i].Position = int64(i)
	}
	return found, nil
}

// rabbitLeft believes in a count of zero once it has outlasted the server's own
// counting, every five seconds.
func rabbitLeft(ctx context.Context, _ *config.Config, open adapters.Broker) (map[string]int64, error) {
	vhost := open.(*rabbitmq.Broker).VHost()
	left, err := rabbitManagement().Held(ctx, vhost)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(left, func(queue string, count int64) bool { return queue == rabbitAudit || count == 0 })
	since, quiet := rabbitQuiet.LoadOrStore(vhost, time.Now())
	switch {
	case len(left) > 0:
		rabbitQuiet.Delete(vhost)
	case !quiet || time.Since(since.(time.Time)) < 6*time.Second:
		left["not settled"] = 1
	}
	return left, nil
}

// rabbitQuiet is since when a virtual host's queues are empty.
var rabbitQuiet sync.Map
