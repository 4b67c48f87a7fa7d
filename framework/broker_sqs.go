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
	wait := time.Duration(cfg.SQS.WaitTime)
	if wait == 0 {
		wait = -1 // 0 there is the adapter's default
	}
	return sqs.Open(ctx, sqs.Config{
		Region:            cfg.SQS.Region,
		Endpoint:          cfg.SQS.Endpoint,
		QueuePrefix:       cfg.SQS.QueuePrefix,
		FIFO:              cfg.Broker == "sqs-fifo", // as the rules table has it
		Create:            cfg.SQS.Create,
		Compress:          cfg.SQS.Compress,
		VisibilityTimeout: time.Duration(cfg.SQS.VisibilityTimeout),
		WaitTime:          wait,
		Workers:           cfg.SQS.Workers,
		DedupWindow:       time.Duration(cfg.Dedup.Window),
		Logger:            logger,
	})
}
