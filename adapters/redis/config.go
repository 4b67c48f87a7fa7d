package redis

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"
)

// Mode is the kind of deployment.
type Mode string

const (
	// Single is one server, or the address of a proxy that stands for one.
	Single Mode = "single"
	// Sentinel is a master and replicas, watched by sentinels.
	Sentinel Mode = "sentinel"
	// Cluster is Redis Cluster.
	Cluster Mode = "cluster"
)

// Config configures a Broker.
type Config struct {
	// Mode of the deployment. Default Single.
	Mode Mode
	// Addresses, host:port: the server, or the sentinels, or some nodes of the
	// cluster. Required.
	Addresses []string
	// MasterName is what the sentinels call the master. Required with Sentinel.
	MasterName string
	// Username and Password log in; an empty Username is the default user.
	Username, Password string
	// SentinelUsername and SentinelPassword log in to the sentinels, where those ask
	// for it.
	SentinelUsername, SentinelPassword string
	// DB is the database's number; a cluster has only 0.
	DB int
	// TLS encrypts the connections. Default nil: none.
	TLS *tls.Config

	// Lease is how long a consumer is taken for alive after its last heartbeat.
	// Then others take over what it holds. Default 30s.
	Lease time.Duration
	// HeartbeatInterval is the time between heartbeats. Default a third of Lease.
	HeartbeatInterval time.Duration
	// Block is how long the server holds a read for which there is nothing.
	// Closing a subscription may wait this long. Default 100ms.
	Block time.Duration
	// Timeout bounds one command's answer. Default 10s.
	Timeout time.Duration
	// IdleConsumer is how much longer than Lease a consumer that died holding
	// nothing is kept in the group. Default 10m.
	IdleConsumer time.Duration

	// MaxLength is about how many entries a stream keeps, and MaxAge about how
	// long. 0: no limit. What a group has not acknowledged is kept in any case.
	MaxLength int
	MaxAge    time.Duration
	// DeleteAcknowledged deletes entries with their acknowledgement. Only for
	// streams that one group reads: another group would lose them.
	DeleteAcknowledged bool
	// MaxPayload is the largest payload in bytes. Default 64 MiB.
	MaxPayload int

	// AllowEviction permits a server that may evict keys when memory is short,
	// and with them marks and messages.
	AllowEviction bool
	// Logger reports takeovers, losses, dead letters and retries. Default
	// slog.Default().
	Logger *slog.Logger
}

func (c *Config) complete() error {
	if c.Mode == "" {
		c.Mode = Single
	}
	if c.Lease == 0 {
		c.Lease = 30 * time.Second
	}
	if c.HeartbeatInterval == 0 {
		c.HeartbeatInterval = c.Lease / 3
	}
	if c.Block == 0 {
		c.Block = 100 * time.Millisecond
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.IdleConsumer == 0 {
		c.IdleConsumer = 10 * time.Minute
	}
	if c.MaxPayload == 0 {
		c.MaxPayload = 64 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c.validate()
}

func (c *Config) validate() error {
	switch {
	case c.Mode != Single && c.Mode != Sentinel && c.Mode != Cluster:
		return fmt.Errorf("configure redis broker: mode is %q, expected single, sentinel or cluster", c.Mode)
	case len(c.Addresses) == 0:
		return fmt.Errorf("configure redis broker: no address, expected host:port of the server, the sentinels or some nodes of the cluster")
	case c.Mode == Single && len(c.Addresses) > 1:
		return fmt.Errorf("configure redis broker: found %d addresses, expected one in mode single: choose mode sentinel or cluster", len(c.Addresses))
	case c.Mode == Sentinel && c.MasterName == "":
		return fmt.Errorf("configure redis broker: no master name, expected what the sentinels call the master")
	case c.Mode == Cluster && c.DB != 0:
		return fmt.Errorf("configure redis broker: database is %d, expected 0: a cluster has only that", c.DB)
	case c.Lease < 0 || c.HeartbeatInterval < 0 || c.Block < 0 || c.Timeout < 0 || c.IdleConsumer < 0 || c.MaxAge < 0:
		return fmt.Errorf("configure redis broker: a duration is negative: lease %s, heartbeat %s, block %s, timeout %s, idle consumer %s, max age %s",
			c.Lease, c.HeartbeatInterval, c.Block, c.Timeout, c.IdleConsumer, c.MaxAge)
	case c.HeartbeatInterval >= c.Lease:
		return fmt.Errorf("configure redis broker: heartbeat interval is %s, expected less than the lease of %s: others would take over from the living",
			c.HeartbeatInterval, c.Lease)
	case c.MaxLength < 0 || c.MaxPayload < 0 || c.MaxPayload > 512<<20:
		return fmt.Errorf("configure redis broker: max length is %d and max payload %d bytes, expected no negative, and at most 512 MiB, the largest string of Redis",
			c.MaxLength, c.MaxPayload)
	}
	return nil
}
