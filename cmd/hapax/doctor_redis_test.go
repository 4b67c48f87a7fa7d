package main

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/internal/servers/launch"
)

// redisServer starts a server of the test's own, with these flags.
func redisServer(t *testing.T, flags ...string) string {
	program := servers.RequireProgram(t, "redis-server")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	require.NoError(t, listener.Close())
	server := exec.Command(program, append([]string{"--bind", "127.0.0.1", "--port", port, "--dir", t.TempDir()}, flags...)...)
	require.NoError(t, server.Start())
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	client := goredis.NewClient(&goredis.Options{Addr: address})
	defer client.Close()
	require.Eventually(t, func() bool { return client.Ping(context.Background()).Err() == nil }, 20*time.Second, 10*time.Millisecond)
	return address
}

func onRedis(address string) string {
	return fmt.Sprintf("service: fulfilment\nbroker: redis\nredis: {addresses: [%q]}\n", address)
}

func TestDoctorOnRedis(t *testing.T) {
	plant := func(flags ...string) func(*testing.T) (string, string) {
		return func(t *testing.T) (string, string) { return onRedis(redisServer(t, flags...)), "orders" }
	}
	// Another broker, and marks on Redis.
	ledger := func(flags ...string) func(*testing.T) (string, string) {
		return func(t *testing.T) (string, string) {
			return embedded(t, fmt.Sprintf("dedup: {strategy: consumer, ledger: {dsn: \"redis://%s/0\"}}\n", redisServer(t, flags...))), "orders"
		}
	}
	find(t, []misconfiguration{
		{what: "eviction of any key", plant: plant("--appendonly", "yes", "--maxmemory-policy", "allkeys-lru"), check: "redis-eviction", says: "maxmemory-policy is allkeys-lru, expected noeviction", runs: true},
		{what: "eviction of leases", plant: plant("--appendonly", "yes", "--maxmemory-policy", "volatile-lru"), check: "redis-eviction", says: "may evict the leases", warning: true},
		{what: "nothing on the disk", plant: plant("--appendonly", "no", "--save", ""), check: "redis-persistence", says: "a restart loses every message and every mark", runs: true},
		{what: "snapshots only", plant: plant("--appendonly", "no", "--save", "60 1"), check: "redis-persistence", says: "goes back to the last snapshot", runs: true},
		{what: "a file that nobody flushes", plant: plant("--appendonly", "yes", "--appendfsync", "no"), check: "redis-persistence", says: "appendfsync is no", warning: true},
		{what: "a ledger that evicts", plant: ledger("--appendonly", "yes", "--maxmemory-policy", "allkeys-lru"), check: "redis-eviction", says: "evicts marks", runs: true},
		{what: "a ledger that a restart forgets", plant: ledger("--appendonly", "no", "--save", ""), check: "redis-persistence", says: "a restart loses every message and every mark", runs: true},
		{what: "no ledger", needed: true, plant: func(t *testing.T) (string, string) {
			return embedded(t, "dedup: {strategy: consumer, ledger: {dsn: \"redis://127.0.0.1:1/0\"}}\n"), "orders"
		}, check: "ledger-connection", says: "127.0.0.1:1"},
	})
	found, err := doctor(t, onRedis(redisServer(t, "--appendonly", "yes")), "orders")
	require.NoError(t, err)
	for _, check := range []string{"redis-eviction", "redis-persistence", "redis-clock"} {
		require.Equal(t, "ok", found[check].Status, check)
	}
}

// A master that goes on without its replica, as servers do by default.
func TestDoctorOnRedisSentinel(t *testing.T) {
	servers.Require(t, servers.Redis) // where one can be had, a group of its own can
	own := launch.Options{Dir: t.TempDir(), Root: filepath.Join("..", ".."), Only: []string{servers.RedisSentinel}, Out: t.Output()}
	t.Cleanup(func() { require.NoError(t, launch.Down(context.WithoutCancel(t.Context()), own, true)) })
	up, err := launch.Up(t.Context(), own)
	require.NoError(t, err)
	require.NoError(t, up[0].Err)
	configuration := fmt.Sprintf("service: fulfilment\nbroker: redis\nredis: {mode: sentinel, master_name: %s, addresses: [\"%s\"]}\n", up[0].Master, strings.Join(up[0].Hosts, `", "`))
	find(t, []misconfiguration{{
		what: "a master that goes on alone", plant: func(*testing.T) (string, string) { return configuration, "orders" },
		check: "redis-min-replicas", says: "a fail-over then forgets all that it took meanwhile", warning: true,
	}})

	sentinels := goredis.NewFailoverClient(&goredis.FailoverOptions{MasterName: up[0].Master, SentinelAddrs: up[0].Hosts})
	defer sentinels.Close()
	require.NoError(t, sentinels.ConfigSet(t.Context(), "min-replicas-to-write", "1").Err())
	found, err := doctor(t, configuration, "orders")
	require.NoError(t, err)
	require.Equal(t, "min-replicas-to-write 1", found["redis-min-replicas"].Found)
}
