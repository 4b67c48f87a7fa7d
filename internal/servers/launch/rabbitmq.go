package launch

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/internal/servers/process"
)

const (
	rabbitPort       = "HAPAX_PORT_RABBITMQ"
	rabbitManagement = "HAPAX_PORT_RABBITMQ_MANAGEMENT"
	rabbitErlang     = "HAPAX_PORT_RABBITMQ_ERLANG"
	rabbitEPMD       = "HAPAX_PORT_RABBITMQ_EPMD"
	rabbitPlugins    = "[rabbitmq_management,rabbitmq_consistent_hash_exchange].\n"
)

var rabbitMQ = recipe{
	ports: func(int) []port {
		return []port{{rabbitPort, 25673}, {rabbitManagement, 25674}, {rabbitErlang, 25675}, {rabbitEPMD, 24369}}
	},
	address: func(s *site) (servers.Address, error) {
		a, err := servers.ParseAddress(servers.RabbitMQ, "amqp://hapax:hapax@"+s.at(rabbitPort)+"/")
		a.Management = "http://hapax:hapax@" + s.at(rabbitManagement)
		return a, err
	},
	services: func(int) []string { return []string{"rabbitmq"} },
	native:   rabbitNative,
}

// rabbitNative runs a node beside the Erlang port mapper it registers with. Left
// to itself the node would start a mapper that listens everywhere, is shared
// with the system's RabbitMQ and outlives it.
func rabbitNative(ctx context.Context, s *site) ([]process.Spec, string, error) {
	// Not the one in PATH: Debian's wrapper insists on root and on its own user.
	server, from, err := s.host.tool(ctx, s, []string{"/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server"}, "rabbitmq-server")
	if err != nil {
		return nil, "", err
	}
	mapper, err := exec.LookPath("epmd")
	if err != nil {
		return nil, "", fmt.Errorf("find Erlang's port mapper: %w", err)
	}
	config, err := s.write("rabbitmq.conf", strings.Join([]string{
		"listeners.tcp.1 = " + s.at(rabbitPort),
		"management.tcp.ip = 127.0.0.1",
		fmt.Sprintf("management.tcp.port = %d", s.ports[rabbitManagement]),
		"default_user = hapax",
		"default_pass = hapax",
		"default_user_tags.administrator = true",
		"disk_free_limit.absolute = 100MB",
		"log.console = true",
		"log.file = false",
	}, "\n")+"\n")
	if err != nil {
		return nil, "", err
	}
	plugins, err := s.write("enabled_plugins", rabbitPlugins)
	if err != nil {
		return nil, "", err
	}
	none, err := s.write("rabbitmq-env.conf", "")
	if err != nil {
		return nil, "", err
	}
	port := fmt.Sprint(s.ports[rabbitEPMD])
	epmd := s.process("epmd", mapper, "-port", port, "-address", "127.0.0.1")
	node := s.process("node1", server)
	node.Env = []string{
		"HOME=" + s.dir, // the Erlang cookie is kept here
		"ERL_EPMD_PORT=" + port,
		"ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_NODENAME=hapax@localhost",
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		fmt.Sprintf("RABBITMQ_NODE_PORT=%d", s.ports[rabbitPort]),
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", s.ports[rabbitErlang]),
		"RABBITMQ_CONFIG_FILE=" + config,
		"RABBITMQ_CONF_ENV_FILE=" + none,
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + plugins,
		"RABBITMQ_MNESIA_BASE=" + filepath.Join(s.dir, "data"),
		"RABBITMQ_LOG_BASE=" + filepath.Join(s.dir, "log"),
		"RABBITMQ_PID_FILE=" + filepath.Join(s.dir, "rabbitmq.own.pid.txt"),
		// With input allowed the script becomes the Erlang machine instead of
		// watching over it, so that the pid we keep is the server's.
		"RABBITMQ_ALLOW_INPUT=1",
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-noinput -kernel inet_dist_use_interface {127,0,0,1}",
	}
	return []process.Spec{epmd, node}, from, nil
}
