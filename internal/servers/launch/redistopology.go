package launch

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/internal/servers/probe"
	"github.com/hapax-go/hapax/internal/servers/process"
)

const (
	redisTrio     = 3 // masters of the cluster, sentinels of the group
	sentinelGroup = "hapax"
)

func redisClusterPort(i int) string { return fmt.Sprintf("HAPAX_PORT_REDIS_CLUSTER_%d", i) }
func redisClusterBus(i int) string  { return redisClusterPort(i) + "_BUS" }
func sentinelPort(i int) string     { return fmt.Sprintf("HAPAX_PORT_REDIS_SENTINEL_%d", i) }
func watchedPort(i int) string      { return fmt.Sprintf("HAPAX_PORT_REDIS_WATCHED_%d", i) }

func trio(s *site, variable func(int) string) string {
	var hosts []string
	for i := 1; i <= redisTrio; i++ {
		hosts = append(hosts, s.at(variable(i)))
	}
	return strings.Join(hosts, ",")
}

// redisCluster is three masters without replicas.
var redisCluster = recipe{
	ports: func(int) []port {
		var ports []port
		for i := 1; i <= redisTrio; i++ {
			ports = append(ports, port{redisClusterPort(i), 27000 + i}, port{redisClusterBus(i), 27010 + i})
		}
		return ports
	},
	address: func(s *site) (servers.Address, error) {
		return servers.ParseAddress(servers.RedisCluster, trio(s, redisClusterPort))
	},
	services: func(int) []string { return []string{"redis-cluster"} },
	native: func(ctx context.Context, s *site) ([]process.Spec, string, error) {
		server, from, err := redisServer(ctx, s)
		var nodes []process.Spec
		for i := 1; i <= redisTrio && err == nil; i++ {
			var p process.Spec
			// Nodes remember each other by port: other ports are another cluster.
			name := fmt.Sprintf("node%d", s.ports[redisClusterPort(i)])
			p, err = redisNode(s, server, name, redisClusterPort(i),
				"cluster-enabled yes", "cluster-node-timeout 2000", fmt.Sprintf("cluster-port %d", s.ports[redisClusterBus(i)]))
			nodes = append(nodes, p)
		}
		return nodes, from, err
	},
	settle: func(ctx context.Context, s *site) error {
		hosts := strings.Split(trio(s, redisClusterPort), ",")
		if _, err := probe.RedisCluster(ctx, hosts); err == nil {
			return nil
		}
		// Refused, without harm, by nodes that are in a cluster already and only
		// need time to find each other.
		args := append([]string{"--cluster", "create"}, hosts...)
		out, err := exec.CommandContext(ctx, "redis-cli", append(args, "--cluster-yes")...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("create redis cluster: %w: %s", err, strings.TrimSpace(string(out)))
		}
		return nil
	},
}

// redisSentinel is a master, a replica, and three sentinels that watch them.
var redisSentinel = recipe{
	ports: func(int) []port {
		ports := []port{{watchedPort(1), 27101}, {watchedPort(2), 27102}}
		for i := 1; i <= redisTrio; i++ {
			ports = append(ports, port{sentinelPort(i), 27110 + i})
		}
		return ports
	},
	address: func(s *site) (servers.Address, error) {
		return servers.ParseAddress(servers.RedisSentinel, "redis-sentinel://"+trio(s, sentinelPort)+"/"+sentinelGroup)
	},
	services: func(int) []string { return []string{"redis-sentinel"} },
	native:   sentinelNative,
}

func sentinelNative(ctx context.Context, s *site) ([]process.Spec, string, error) {
	server, from, err := redisServer(ctx, s)
	if err != nil {
		return nil, "", err
	}
	// A fail-over rewrites these files. Each `up` from nothing begins from ours:
	// the first server is the master again, with the data it has.
	master := strings.ReplaceAll(s.at(watchedPort(1)), ":", " ")
	first, err := redisNode(s, server, "node1", watchedPort(1))
	if err != nil {
		return nil, "", err
	}
	second, err := redisNode(s, server, "node2", watchedPort(2), "replicaof "+master)
	if err != nil {
		return nil, "", err
	}
	all := []process.Spec{first, second}
	for i := 1; i <= redisTrio; i++ {
		name := fmt.Sprintf("sentinel%d", i)
		data := filepath.Join(s.dir, "data", name)
		if err := os.MkdirAll(data, 0o755); err != nil {
			return nil, "", fmt.Errorf("make data folder: %w", err)
		}
		config, err := s.write(name+".conf", strings.Join([]string{
			"bind 127.0.0.1",
			fmt.Sprintf("port %d", s.ports[sentinelPort(i)]),
			fmt.Sprintf("dir %q", data),
			fmt.Sprintf("sentinel monitor %s %s 2", sentinelGroup, master),
			fmt.Sprintf("sentinel down-after-milliseconds %s 1500", sentinelGroup),
			fmt.Sprintf("sentinel failover-timeout %s 6000", sentinelGroup),
		}, "\n")+"\n")
		if err != nil {
			return nil, "", err
		}
		all = append(all, s.process(name, server, config, "--sentinel"))
	}
	return all, from, nil
}
