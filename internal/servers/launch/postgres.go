package launch

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/internal/servers/process"
)

const postgresPort = "HAPAX_PORT_POSTGRES"

var postgres = recipe{
	ports: func(int) []port { return []port{{postgresPort, 25433}} },
	address: func(s *site) (servers.Address, error) {
		return servers.ParseAddress(servers.Postgres, postgresURL(s, "hapax"))
	},
	services: func(int) []string { return []string{"postgres"} },
	native:   postgresNative,
	settle:   postgresDatabase,
}

func postgresURL(s *site, database string) string {
	return "postgres://hapax:hapax@" + s.at(postgresPort) + "/" + database + "?sslmode=disable"
}

func postgresNative(ctx context.Context, s *site) ([]process.Spec, string, error) {
	// The data format is the major version's, so the pinned one is looked for first.
	initdb, from, err := s.host.tool(ctx, s, []string{"/usr/lib/postgresql/15/bin/initdb", "/usr/lib/postgresql/1[6-9]/bin/initdb"},
		"postgresql-15", "postgresql-16", "postgresql-17")
	if err != nil {
		return nil, "", err
	}
	user, err := unprivileged("postgres")
	if err != nil {
		return nil, "", err
	}
	bin := filepath.Dir(initdb)
	data, filled, err := s.dataDir("data-"+filepath.Base(filepath.Dir(bin)), user)
	if err != nil {
		return nil, "", err
	}
	if !filled {
		s.step("making the data folder")
		password := data + ".password"
		if err := os.MkdirAll(filepath.Dir(password), 0o755); err != nil {
			return nil, "", fmt.Errorf("make data folder: %w", err)
		}
		if err := os.WriteFile(password, []byte("hapax\n"), 0o644); err != nil {
			return nil, "", fmt.Errorf("make data folder: %w", err)
		}
		defer os.Remove(password)
		if err := fill(ctx, data, user, func(dir string) process.Spec {
			return s.process("initdb", initdb, "-D", dir, "-U", "hapax", "--pwfile="+password, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
		}); err != nil {
			return nil, "", err
		}
	}
	p := s.process("node1", filepath.Join(bin, "postgres"), "-D", data)
	for _, setting := range []string{
		"listen_addresses=127.0.0.1",
		fmt.Sprintf("port=%d", s.ports[postgresPort]),
		"unix_socket_directories=",
		"max_connections=200",
		"shared_buffers=256MB",
	} {
		p.Args = append(p.Args, "-c", setting)
	}
	p.RunAs = user
	// It holds the killed server's pid, which PostgreSQL believes alive while that
	// is a zombie or somebody else's; we know the process by more than its pid.
	p.Leftovers = []string{filepath.Join(data, "postmaster.pid")}
	p.StopSignal = int(syscall.SIGINT) // "fast": SIGTERM would wait for every client to leave
	return []process.Spec{p}, from, nil
}

func postgresDatabase(ctx context.Context, s *site) error {
	db, err := sql.Open("pgx", postgresURL(s, "postgres"))
	if err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	defer db.Close()
	var there bool
	if err := db.QueryRowContext(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'hapax')").Scan(&there); err != nil || there {
		return err
	}
	if _, err := db.ExecContext(ctx, "CREATE DATABASE hapax"); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	return nil
}
