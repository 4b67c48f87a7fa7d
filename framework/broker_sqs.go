package framework

import (
	"context"
	"log/slog"
	"time"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqs"
	"github.com/hapax-go/hapax/framework/config"
)

// openSQS maps the sqs block to the adapter's config.
func openSQS(ctx context.Context, cfg *config.Config, logger *slog.Logger) (adapters.Broker, error) {
	settings := sqsConfig(cfg)
	settings.Logger = logger
	broker, err := sqs.Open(ctx, settings)
	if err != nil {
		return nil, err // a nil *sqs.Broker would be a Broker that is not nil
	}
	return broker, nil
}

func sqsConfig(cfg *config.Config) sqs.Config {
	wait := time.Duration(cfg.SQS.WaitTime)
	if wait == 0 {
		wait = -1 // 0 there is the adapter's default
	}
	return sqs.Config{
		Region:            cfg.SQS.Region,
		Endpoint:          cfg.SQS.Endpoint,
		QueuePrefix:       cfg.SQS.QueuePrefix,
		FIFO:              cfg.SQS.FIFO || cfg.Broker == sqsFIFO,
		Create:            cfg.SQS.Create,
		Compress:          cfg.SQS.Compress,
		VisibilityTimeout: time.Duration(cfg.SQS.VisibilityTimeout),
		WaitTime:          wait,
		Workers:           cfg.SQS.Workers,
		DedupWindow:       time.Duration(cfg.Dedup.Window),
	}
}

// sqsFIFO is the row of the rules table for FIFO queues, and a broker's name of its
// own, so that nothing but the broker has to change between the two kinds.
const sqsFIFO = sqs.Name + "-fifo"

// ruleBroker is the broker's row of the rules table for a topic: a service on SQS may
// have queues of both kinds.
func ruleBroker(cfg *config.Config, topic string) string {
	settings := sqsConfig(cfg)
	if cfg.Broker == sqs.Name && settings.IsFIFO(topicNamesOf(cfg).of(topic)) {
		return sqsFIFO
	}
	return cfg.Broker
}
