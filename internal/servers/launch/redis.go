package launch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/internal/servers/process"
)

const redisPort = "HAPAX_PORT_REDIS"

var redisOne = recipe{
	ports:    func(int) []port { return []port{{redisPort, 26380}} },
	address:  func(s *site) (servers.Address, error) { return servers.ParseAddress(servers.Redis, s.at(redisPort)) },
	services: func(int) []string { return []string{"redis"} },
	native: func(ctx context.Context, s *site) ([]process.Spec, string, error) {
		server, from, err := redisServer(ctx, s)
		if err != nil {
			return nil, "", err
		}
		p, err := redisNode(s, server, "node1", redisPort)
		return []process.Spec{p}, from, err
	},
}

func redisServer(ctx context.Context, s *site) (path, from string, err error) {
	return s.host.tool(ctx, s, []string{"redis-server"}, "redis-server")
}

// redisNode is one durable server that rather refuses writes than forgets.
func redisNode(s *site, server, name, variable string, more ...string) (process.Spec, error) {
	data := filepath.Join(s.dir, "data", name)
	if err := os.MkdirAll(data, 0o755); err != nil {
		return process.Spec{}, fmt.Errorf("make data folder: %w", err)
	}
	config, err := s.write(name+".conf", strings.Join(append([]string{
		"bind 127.0.0.1",
		fmt.Sprintf("port %d", s.ports[variable]),
		fmt.Sprintf("dir %q", data),
		"appendonly yes",
		"appendfsync everysec",
		"maxmemory-policy noeviction",
		"auto-aof-rewrite-min-size 2gb", // a rewrite takes a core from what is measured
		"daemonize no",
	}, more...), "\n")+"\n")
	return s.process(name, server, config), err
}
