package launch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/internal/servers/process"
)

const (
	mariaPort     = "HAPAX_PORT_MARIADB"
	longestSocket = 100 // a Unix socket's path has room for 107 bytes
)

var mariaDB = recipe{
	ports: func(int) []port { return []port{{mariaPort, 23307}} },
	address: func(s *site) (servers.Address, error) {
		return servers.ParseAddress(servers.MariaDB, "hapax:hapax@tcp("+s.at(mariaPort)+")/hapax")
	},
	services: func(int) []string { return []string{"mariadb"} },
	native:   mariaNative,
}

// mariaStart runs at every start, so each statement must find its work done.
const mariaStart = `CREATE DATABASE IF NOT EXISTS hapax CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS 'hapax'@'%' IDENTIFIED BY 'hapax';
GRANT ALL ON *.* TO 'hapax'@'%';
`

func mariaNative(ctx context.Context, s *site) ([]process.Spec, string, error) {
	// The package "…-core" has the programs without a service around them.
	server, from, err := s.host.tool(ctx, s, []string{"/usr/sbin/mariadbd", "mariadbd"}, "mariadb-server-core", "mariadb-server-core-10.6")
	if err != nil {
		return nil, "", err
	}
	install, _, err := s.host.tool(ctx, s, []string{"mariadb-install-db"}, "mariadb-server-core", "mariadb-server")
	if err != nil {
		return nil, "", err
	}
	// mariadb-install-db calls it, but the packages do not say so.
	if _, _, err := s.host.tool(ctx, s, []string{"my_print_defaults"}, "mariadb-client-core", "mariadb-client-core-10.6"); err != nil {
		return nil, "", err
	}
	user, err := unprivileged("mysql", "nobody")
	if err != nil {
		return nil, "", err
	}
	data, filled, err := s.dataDir("data", user)
	if err != nil {
		return nil, "", err
	}
	if !filled {
		s.step("making the data folder")
		if err := fill(ctx, data, user, func(dir string) process.Spec {
			return s.process("install-db", install, "--no-defaults", "--datadir="+dir, "--auth-root-authentication-method=normal", "--skip-test-db")
		}); err != nil {
			return nil, "", err
		}
	}
	start := filepath.Join(filepath.Dir(data), "start.sql")
	if err := os.WriteFile(start, []byte(mariaStart), 0o644); err != nil {
		return nil, "", fmt.Errorf("write start.sql: %w", err)
	}
	socket := filepath.Join(data, "server.sock")
	if len(socket) > longestSocket {
		socket = filepath.Join(os.TempDir(), fmt.Sprintf("hapax-mariadb-%d.sock", s.ports[mariaPort]))
	}
	p := s.process("node1", server, "--no-defaults", "--datadir="+data, "--socket="+socket, "--pid-file="+filepath.Join(data, "own.pid"),
		"--bind-address=127.0.0.1", fmt.Sprintf("--port=%d", s.ports[mariaPort]), "--skip-name-resolve",
		"--init-file="+start, "--max-connections=200", "--innodb-buffer-pool-size=256M", "--character-set-server=utf8mb4")
	p.RunAs = user
	return []process.Spec{p}, from, nil
}
