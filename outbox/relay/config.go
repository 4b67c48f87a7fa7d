package relay

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/outbox"
)

// Config configures a Relay.
type Config struct {
	// DB holds the outbox. The relay uses Workers+2 connections of it.
	DB *sql.DB
	// Outbox says where in the database it is.
	Outbox outbox.Config
	// Publisher brings messages to the broker. Its Publish must return only when
	// they are durable, as that of every adapter of Hapax does.
	Publisher message.Publisher
	// Ping asks whether the broker answers; adapters.Broker has such a method.
	// It tells a broker that is away from a row that cannot be published. nil:
	// a row is at fault when others can be published.
	Ping func(context.Context) error

	// Instance names this relay among the others, for people; a random part is
	// added. Default: the host's name.
	Instance string
	// Batch is the most rows of a round. Default 500. Large ones are fewer: a round ends
	// with the row that makes 8 MiB of payloads full.
	Batch int
	// Workers is how many rounds may be under way, each with shards of its own.
	// Default 4.
	Workers int
	// Lease is how long a shard waits for an owner that died. Default 5s, 500ms
	// at least.
	Lease time.Duration
	// PollInterval is how often an idle relay looks for rows. Default 10ms, and
	// 250ms while it listens to PostgreSQL.
	PollInterval time.Duration
	// MaxAttempts is how often a row is tried before it is parked. Default 10.
	MaxAttempts int
	// RetryDelay is the pause after a row's first failure; it doubles up to
	// MaxRetryDelay. Defaults 100ms and 30s. A broker or a database that is away
	// is asked at the same pace, at most every 5s.
	RetryDelay, MaxRetryDelay time.Duration
	// Retention is how long published rows are kept. 0: they are deleted at once.
	Retention time.Duration
	// Logger gets what goes wrong. Default slog.Default().
	Logger *slog.Logger
}

func (c Config) resolve() (Config, error) {
	if c.DB == nil || c.Publisher == nil {
		return c, errors.New("configure relay: DB and Publisher must be set")
	}
	var err error
	if c.Outbox, err = c.Outbox.Resolve(); err != nil {
		return c, err
	}
	if c.Instance == "" {
		c.Instance, _ = os.Hostname()
	}
	c.Instance = fmt.Sprintf("%.40s-%d-%.8s", c.Instance, os.Getpid(), rand.Text())
	or := func(d *time.Duration, fallback time.Duration) {
		if *d <= 0 {
			*d = fallback
		}
	}
	or(&c.Lease, 5*time.Second)
	or(&c.RetryDelay, 100*time.Millisecond)
	or(&c.MaxRetryDelay, 30*time.Second)
	c.Lease = max(c.Lease, 500*time.Millisecond)
	if c.Batch <= 0 {
		c.Batch = 500
	}
	if c.Workers <= 0 {
		c.Workers = 4
	}
	c.Workers = min(c.Workers, outbox.Shards)
	if c.MaxAttempts <= 0 {
		c.MaxAttempts = 10
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}
