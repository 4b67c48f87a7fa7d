package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/adapters/kafka/plain"
	"github.com/hapax-go/hapax/adapters/kafka/raw"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/servers"
)

const (
	// kafkaSession is short, so that a killed consumer's partitions move soon. It
	// is the least that brokers allow by default.
	kafkaSession    = 6 * time.Second
	kafkaPartitions = 6
)

// kafkaBroker runs each lane on topics of its own, which it makes first. Fulfilment
// runs in Kafka transactions; shipping writes its rows through the inbox.
var kafkaBroker = broker{
	name:     kafka.Name,
	plainBy:  "the official watermill-kafka",
	fewKills: true,
	config: func(folder, lane string) *config.Config {
		cfg := config.Default()
		cfg.Service, cfg.Broker = "black-friday", kafka.Name
		cfg.Kafka.Brokers = []string{"127.0.0.1:9092"}
		if server, found := servers.Find(servers.Kafka); found {
			cfg.Kafka.Brokers = server.Hosts
		}
		cfg.Kafka.SessionTimeout = config.Duration(kafkaSession)
		cfg.Kafka.Transaction.Timeout = config.Duration(kafkaSession * 2 / 3)
		cfg.Kafka.CreateTopics = true
		run := fnv.New32a()
		_, _ = run.Write([]byte(folder))
		cfg.Topics = map[string]config.Topic{}
		for _, topic := range []string{topicOrders, topicShipping} {
			cfg.Topics[topic] = config.Topic{Name: fmt.Sprintf("demo-%08x-%s-%s", run.Sum32(), lane, topic)}
		}
		cfg.SQL.DSN = config.DSN(shopFile(folder, lane))
		fulfilment := cfg.Handler(topicOrders)
		fulfilment.Strategy = dedup.StrategyTransaction
		cfg.Handlers = map[string]config.Handler{topicOrders: fulfilment}
		return cfg
	},
	prepare: func(ctx context.Context, cfg *config.Config) error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		return raw.Reset(ctx, cfg.Kafka.Brokers, kafkaPartitions, []string{cfg.Topics[topicOrders].Name, cfg.Topics[topicShipping].Name})
	},
	clear: func(ctx context.Context, cfg *config.Config) error {
		orders, shipping := cfg.Topics[topicOrders].Name, cfg.Topics[topicShipping].Name
		return raw.Reset(ctx, cfg.Kafka.Brokers, 0, nil, orders, shipping, kafka.IDLogName(cfg.Service+"."+topicOrders, orders))
	},
	plain: func(_ context.Context, cfg *config.Config, _ *slog.Logger) (*plainEnds, error) {
		publisher, err := plain.Publisher(cfg.Kafka.Brokers)
		if err != nil {
			return nil, err
		}
		return &plainEnds{
			subscribe: func(group string) (message.Subscriber, error) {
				subscriber, err := plain.Subscriber(cfg.Kafka.Brokers, group, kafkaSession)
				return kafkaSubscriber{subscriber, cfg}, err
			},
			publisher: kafkaPublisher{publisher, cfg},
			close:     publisher.Close,
		}, nil
	},
	shop:    shopFile,
	outputs: kafkaOutputs,
	left:    kafkaLeft,
}

// kafkaSubscriber and kafkaPublisher give the official adapter's ends the lane's
// topic names.
type kafkaSubscriber struct {
	message.Subscriber
	config *config.Config
}

// Subscribe implements message.Subscriber.
func (s kafkaSubscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	return s.Subscriber.Subscribe(ctx, s.config.Topics[topic].Name)
}

type kafkaPublisher struct {
	message.Publisher
	config *config.Config
}

// Publish implements message.Publisher.
func (p kafkaPublisher) Publish(topic string, messages ...*message.Message) error {
	return p.Publisher.Publish(p.config.Topics[topic].Name, messages...)
}

// kafkaOutputs reads what is committed, without the adapter.
func kafkaOutputs(ctx context.Context, cfg *config.Config) ([]fault.Effect, error) {
	values, err := raw.Values(ctx, cfg.Kafka.Brokers, cfg.Topics[topicShipping].Name)
	if err != nil {
		return nil, err
	}
	found := make([]fault.Effect, len(values))
	for i, value := range values {
		var shipment Shipment
		if err := json.Unmarshal(value, &shipment); err != nil {
			return nil, fmt.Errorf("read record %d of topic %s: %w", i, topicShipping, err)
		}
		found[i] = shipment.effect("")
		found[i].Position = int64(i)
	}
	return found, nil
}

// kafkaLeft is how far the lane's groups are behind: those of the plain consumer, or
// those of the service. The first stage is looked at first: the other way round, an event
// could go from a topic that is looked at later into one that was looked at before.
func kafkaLeft(ctx context.Context, cfg *config.Config, open adapters.Broker) (map[string]int64, error) {
	left, found := map[string]int64{}, 0
	for _, read := range []struct{ group, topic string }{
		{"fulfilment", topicOrders}, {"black-friday." + topicOrders, topicOrders},
		{"shipping", topicShipping}, {"black-friday." + topicShipping, topicShipping},
	} {
		lag, err := open.(*kafka.Broker).Lag(ctx, read.group, topicName(cfg, read.topic))
		switch {
		case err == nil:
			found++
			left[read.topic+" "+read.group] = lag
		case !errors.Is(err, kafka.ErrNoOffsets):
			return nil, err
		}
	}
	left["groups that have not begun"] = int64(max(0, 2-found))
	return left, nil
}
