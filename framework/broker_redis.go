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

// openRedis connects to the broker of the redis block.
func openRedis(ctx context.Context, cfg *config.Config, logger *slog.Logger) (adapters.Broker, error) {
	connection, err := redisConfig(cfg, logger)
	if err != nil {
		return nil, err
	}
	broker, err := redis.Open(ctx, connection)
	if err != nil {
		return nil, err // a nil *redis.Broker would be a Broker that is not nil
	}
	return broker, nil
}

// redisConfig maps the redis block to the adapter's config, for the broker and for a
// ledger.
func redisConfig(cfg *config.Config, logger *slog.Logger) (redis.Config, error) {
	block := cfg.Redis
	encryption, err := tlsConfig(cfg, block.TLS)
	if err != nil {
		return redis.Config{}, fmt.Errorf("%s: %w", cfg.Where("redis.tls"), err)
	}
	return redis.Config{
		Mode:             redis.Mode(block.Mode),
		Addresses:        block.Addresses,
		MasterName:       block.MasterName,
		Username:         block.Username,
		Password:         block.Password.Reveal(),
		SentinelUsername: block.SentinelUsername,
		SentinelPassword: block.SentinelPassword.Reveal(),
		DB:               block.DB,
		TLS:              encryption,
		Lease:            time.Duration(block.Lease),
		MaxLength:        block.Trim.MaxLength,
		MaxAge:           time.Duration(block.Trim.MaxAge),
		AllowEviction:    block.AllowEviction,
		Logger:           logger,
	}, nil
}
