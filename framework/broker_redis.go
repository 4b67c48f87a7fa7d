package framework

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/framework/config"
)

// openRedis maps the redis block to the adapter's config.
func openRedis(ctx context.Context, cfg *config.Config, logger *slog.Logger) (adapters.Broker, error) {
	block := cfg.Redis
	encryption, err := rabbitMQTLS(block.TLS)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Where("redis.tls"), err)
	}
	return redis.Open(ctx, redis.Config{
		Mode:          redis.Mode(block.Mode),
		Addresses:     block.Addresses,
		MasterName:    block.MasterName,
		Username:      block.Username,
		Password:      block.Password.Reveal(),
		DB:            block.DB,
		TLS:           encryption,
		Lease:         time.Duration(block.Lease),
		MaxLength:     block.Trim.MaxLength,
		MaxAge:        time.Duration(block.Trim.MaxAge),
		AllowEviction: block.AllowEviction,
		Logger:        logger,
	})
}
