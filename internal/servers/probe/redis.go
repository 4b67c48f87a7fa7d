package probe

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Redis sends PING and reads the version from INFO. A server that is still
// loading its append-only file refuses PING.
func Redis(ctx context.Context, url string) (string, error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return "", fmt.Errorf("ask redis: %w", err)
	}
	return askRedis(ctx, options)
}

// RedisCluster expects every host to see all slots served.
func RedisCluster(ctx context.Context, hosts []string) (version string, err error) {
	for _, host := range hosts {
		if version, err = askRedis(ctx, &redis.Options{Addr: host}); err != nil {
			return "", err
		}
		client := redis.NewClient(options(&redis.Options{Addr: host}))
		info, err := client.ClusterInfo(ctx).Result()
		client.Close()
		if err != nil {
			return "", fmt.Errorf("ask redis %s for its cluster: %w", host, err)
		}
		if !strings.Contains(info, "cluster_state:ok") {
			return "", fmt.Errorf("ask redis %s for its cluster: slots are not all served", host)
		}
	}
	return version, nil
}

// RedisSentinel expects every sentinel to name a master that answers and to know
// a replica and the other sentinels: without those a fail-over cannot happen.
func RedisSentinel(ctx context.Context, hosts []string, group string) (version string, err error) {
	for _, host := range hosts {
		// Sentinels answer PING and INFO too.
		if _, err := askRedis(ctx, &redis.Options{Addr: host}); err != nil {
			return "", err
		}
		client := redis.NewSentinelClient(options(&redis.Options{Addr: host}))
		master, err := client.Master(ctx, group).Result()
		client.Close()
		if err != nil {
			return "", fmt.Errorf("ask sentinel %s for %s: %w", host, group, err)
		}
		if master["num-slaves"] == "0" || master["num-other-sentinels"] != fmt.Sprint(len(hosts)-1) || master["flags"] != "master" {
			return "", fmt.Errorf("ask sentinel %s for %s: it sees %s replicas and %s other sentinels, master is %q",
				host, group, master["num-slaves"], master["num-other-sentinels"], master["flags"])
		}
		if version, err = askRedis(ctx, &redis.Options{Addr: master["ip"] + ":" + master["port"]}); err != nil {
			return "", err
		}
	}
	return version, nil
}

func options(o *redis.Options) *redis.Options {
	o.MaxRetries, o.DialTimeout, o.ReadTimeout = -1, attempt, attempt
	o.DialerRetries = 1
	return o
}

func askRedis(ctx context.Context, o *redis.Options) (string, error) {
	// The client writes every refused connection to the process's log, which is
	// noise while a server starts.
	conn, err := (&net.Dialer{Timeout: attempt}).DialContext(ctx, "tcp", o.Addr)
	if err != nil {
		return "", fmt.Errorf("ask redis: %w", err)
	}
	if err := conn.Close(); err != nil {
		return "", fmt.Errorf("ask redis: %w", err)
	}
	client := redis.NewClient(options(o))
	defer client.Close()
	if err := client.Ping(ctx).Err(); err != nil {
		return "", fmt.Errorf("ask redis %s: %w", o.Addr, err)
	}
	info, err := client.Info(ctx, "server").Result()
	if err != nil {
		return "", fmt.Errorf("ask redis %s for its version: %w", o.Addr, err)
	}
	_, rest, _ := strings.Cut(info, "redis_version:")
	version, _, _ := strings.Cut(rest, "\r\n")
	return version, nil
}
