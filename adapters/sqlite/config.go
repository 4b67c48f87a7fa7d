package sqlite

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

// Config configures a Broker.
type Config struct {
	// Path is the file. It is created if missing; its folder must exist.
	// Required.
	Path string
	// Synchronous says when a commit waits for the disk. Default sqldb.Full.
	Synchronous sqldb.Synchronous
	// LeaseDuration is how long a consumer is taken for alive after its last
	// heartbeat. Then others take over what it holds. Default 30s.
	LeaseDuration time.Duration
	// HeartbeatInterval is the time between heartbeats. Default a third of
	// LeaseDuration.
	HeartbeatInterval time.Duration
	// PollInterval is how often the file is asked whether another process has
	// written. Default 10ms; it grows to five times that while nothing happens.
	PollInterval time.Duration
	// Retention is how long a message is kept after every group is done with
	// it. Default 24h; negative: forever.
	Retention time.Duration
	// MaxAge is how long a message is kept in a topic that no group reads.
	// Default 0: forever. Messages that a group has not consumed never expire.
	MaxAge time.Duration
	// MaxPayload is the largest payload in bytes. Default 16 MiB.
	MaxPayload int
	// TurnTimeout bounds how long a handler may hold the database's only writer
	// through inbox.Tx. Default half of LeaseDuration.
	TurnTimeout time.Duration
	// Logger reports takeovers, dead letters and retries. Default slog.Default().
	Logger *slog.Logger
}

func (c *Config) complete() error {
	if c.Synchronous == "" {
		c.Synchronous = sqldb.Full
	}
	if c.LeaseDuration == 0 {
		c.LeaseDuration = 30 * time.Second
	}
	if c.HeartbeatInterval == 0 {
		c.HeartbeatInterval = c.LeaseDuration / 3
	}
	if c.PollInterval == 0 {
		c.PollInterval = 10 * time.Millisecond
	}
	if c.Retention == 0 {
		c.Retention = 24 * time.Hour
	}
	if c.MaxPayload == 0 {
		c.MaxPayload = 16 << 20
	}
	if c.TurnTimeout == 0 {
		c.TurnTimeout = c.LeaseDuration / 2
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	switch {
	case c.Path == "":
		return fmt.Errorf("configure sqlite broker: path is empty, expected the name of a file such as hapax.db")
	case c.LeaseDuration < 0 || c.HeartbeatInterval < 0 || c.PollInterval < 0 || c.TurnTimeout < 0 || c.MaxAge < 0:
		return fmt.Errorf("configure sqlite broker: a duration is negative: lease %s, heartbeat %s, poll %s, turn timeout %s, max age %s",
			c.LeaseDuration, c.HeartbeatInterval, c.PollInterval, c.TurnTimeout, c.MaxAge)
	case c.HeartbeatInterval >= c.LeaseDuration:
		return fmt.Errorf("configure sqlite broker: heartbeat interval is %s, expected less than the lease of %s: others would take over from the living",
			c.HeartbeatInterval, c.LeaseDuration)
	case c.MaxPayload < 0 || c.MaxPayload > 900<<20:
		return fmt.Errorf("configure sqlite broker: max payload is %d bytes, expected up to 900 MiB, because a SQLite row ends at 1 GB", c.MaxPayload)
	}
	return nil
}
