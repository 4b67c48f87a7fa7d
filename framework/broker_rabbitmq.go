package framework

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/rabbitmq"
	"github.com/hapax-go/hapax/framework/config"
)

// openRabbitMQ maps the rabbitmq block to the adapter's config.
func openRabbitMQ(ctx context.Context, cfg *config.Config, logger *slog.Logger) (adapters.Broker, error) {
	encryption, err := tlsConfig(cfg, cfg.RabbitMQ.TLS)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Where("rabbitmq.tls"), err)
	}
	broker, err := rabbitmq.Open(ctx, rabbitmq.Config{
		URL:             cfg.RabbitMQ.URL.Reveal(),
		VHost:           cfg.RabbitMQ.VHost,
		TLS:             encryption,
		QueueType:       rabbitmq.QueueType(cfg.RabbitMQ.QueueType),
		Prefetch:        cfg.RabbitMQ.Prefetch,
		DeliveryLimit:   cfg.RabbitMQ.DeliveryLimit,
		ConsumerTimeout: time.Duration(cfg.RabbitMQ.ConsumerTimeout),
		HandlerTimeout:  time.Duration(cfg.Consumer.HandlerTimeout),
		MaxDeliveries:   cfg.Consumer.MaxDeliveries,
		// With ordering "none" all members share the queue, whatever these say.
		SingleActiveConsumer: cfg.RabbitMQ.SingleActiveConsumer,
		Partitions:           cfg.RabbitMQ.Partitions,
		PartitionBy:          rabbitmq.PartitionBy(cfg.RabbitMQ.PartitionBy),
		Priority:             cfg.RabbitMQ.Priority,
		ParkAfter:            time.Duration(cfg.RabbitMQ.ParkAfter),
		AllowLimits:          slices.Contains(cfg.Allow, rabbitmq.FindingLimits),
		Readers:              rabbitMQReaders(cfg),
		Logger:               logger,
	})
	if err != nil {
		return nil, err // not broker: a nil *Broker would be an adapters.Broker that is not nil
	}
	return broker, nil
}

// rabbitMQReaders maps topics, as the broker calls them, to the groups that are to have
// a queue before anything is published.
func rabbitMQReaders(cfg *config.Config) map[string][]string {
	names, readers := topicNamesOf(cfg), map[string][]string{}
	for _, reader := range cfg.RabbitMQ.Readers {
		topic, group, _ := strings.Cut(reader, "=") // it is checked when the config is read
		readers[names.of(topic)] = append(readers[names.of(topic)], group)
	}
	return readers
}
