package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Connect returns a connected client, for stores that live beside the broker. The
// caller closes it. The client never repeats a command by itself, but in a cluster.
func Connect(ctx context.Context, config Config) (redis.UniversalClient, error) {
	if err := config.complete(); err != nil {
		return nil, err
	}
	client := newClient(config)
	if err := client.Ping(ctx).Err(); err != nil {
		return nil, errors.Join(explain(ctx, config, err), client.Close())
	}
	return client, nil
}

// newClient connects. The client never repeats a command by itself, because who sends
// it knows what to do. But the client of a cluster does, up to MaxRedirects times,
// after a connection broke: a publish may so become a copy (with its ID), and what must
// not be repeated says so itself.
func newClient(c Config) redis.UniversalClient {
	logLibrary(c.Logger)
	switch c.Mode {
	case Cluster:
		return redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: c.Addresses, Username: c.Username, Password: c.Password, TLSConfig: c.TLS, Protocol: 2,
			MaxRetries: -1, MaxRedirects: 8, ReadTimeout: c.Timeout, WriteTimeout: c.Timeout,
			PoolSize: poolSize, MaxIdleConns: idleConnections, ContextTimeoutEnabled: true, DisableIdentity: true,
			ReadBufferSize: bufferSize, WriteBufferSize: bufferSize,
		})
	case Sentinel:
		return redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName: c.MasterName, SentinelAddrs: c.Addresses, SentinelUsername: c.SentinelUsername, SentinelPassword: c.SentinelPassword,
			Username: c.Username, Password: c.Password, DB: c.DB, TLSConfig: c.TLS,
			Protocol: 2, MaxRetries: -1, ReadTimeout: c.Timeout, WriteTimeout: c.Timeout,
			PoolSize: poolSize, MaxIdleConns: idleConnections, ContextTimeoutEnabled: true, DisableIdentity: true,
			ReadBufferSize: bufferSize, WriteBufferSize: bufferSize,
		})
	default:
		return redis.NewClient(&redis.Options{
			Addr: c.Addresses[0], Username: c.Username, Password: c.Password, DB: c.DB, TLSConfig: c.TLS,
			Protocol: 2, MaxRetries: -1, ReadTimeout: c.Timeout, WriteTimeout: c.Timeout,
			PoolSize: poolSize, MaxIdleConns: idleConnections, ContextTimeoutEnabled: true, DisableIdentity: true,
			ReadBufferSize: bufferSize, WriteBufferSize: bufferSize,
		})
	}
}

const (
	// poolSize is the most connections of a broker. Every subscription holds one
	// while it waits for messages, so it must not be reached.
	poolSize        = 10_000
	idleConnections = 16
	// bufferSize is that of a connection's buffers, one each way: a batch is some
	// hundred KB, and every filling of a buffer is a call of the system.
	bufferSize = 64 << 10
)

var libraryLogged sync.Once

// logLibrary hands what the library logs by itself, to standard error otherwise, to the
// first logger that listens: there is one for the whole process.
func logLibrary(logger *slog.Logger) {
	if logger.Enabled(context.Background(), slog.LevelError) {
		libraryLogged.Do(func() { redis.SetLogger(libraryLogger{logger}) })
	}
}

type libraryLogger struct{ logger *slog.Logger }

// Printf implements the library's logging.
func (l libraryLogger) Printf(ctx context.Context, format string, values ...any) {
	l.logger.WarnContext(ctx, "redis client: "+fmt.Sprintf(format, values...))
}

// explain adds to a connection error what the user can do about it.
func explain(ctx context.Context, c Config, err error) error {
	if err == nil {
		return nil
	}
	where := fmt.Sprintf("redis (%s) at %v", c.Mode, c.Addresses)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case redis.HasErrorPrefix(err, "NOAUTH"), redis.HasErrorPrefix(err, "WRONGPASS"):
		return fmt.Errorf("log in to %s as %q: %w: check redis.username and redis.password", where, c.Username, err)
	case denied(err):
		return fmt.Errorf("use %s: %w", where, permission(c, err))
	default:
		return fmt.Errorf("connect to %s: %w: check that the server runs there, and redis.mode, redis.addresses and redis.tls", where, err)
	}
}

// Permissions are the rules that a user of an access control list needs, on the keys
// of its topics and hapax:*. INFO and CONFIG GET are for the start-up check only.
const Permissions = "+@stream +@scripting +@connection +@transaction +get +set +setrange +mget +del +unlink +exists +hget +hmget +hgetall +hset +hdel " +
	"+zadd +zrem +zscore +zrangebyscore +time +info +config|get +cluster|slots +cluster|shards +cluster|nodes +command"

// permission adds to a refusal what would have been needed.
func permission(c Config, err error) error {
	if !denied(err) {
		return err
	}
	return fmt.Errorf("%w: user %q needs the rules %s (redis.Permissions) on the keys of its topics and on hapax:*", err, c.Username, Permissions)
}

// denied reports a command, or a key, that the user may not use; in a script the
// server says it in other words.
func denied(err error) bool {
	return redis.HasErrorPrefix(err, "NOPERM") || err != nil && strings.Contains(err.Error(), "The user executing the script can't")
}
