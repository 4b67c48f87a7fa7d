package launch

import (
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"

	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/internal/servers/process"
)

// recipe says how one kind of server is had.
type recipe struct {
	ports func(nodes int) []port
	// address completes an address whose name and origin are set.
	address func(s *site) (servers.Address, error)
	// services are the names in compose.yaml, one for each node.
	services func(nodes int) []string
	// native installs what is missing, writes the configuration, and returns the
	// processes to start and, in words, where the server came from.
	native func(ctx context.Context, s *site) ([]process.Spec, string, error)
	// settle, if set, finishes once the processes run. It is repeated until it
	// succeeds, so it must find its own work done.
	settle func(ctx context.Context, s *site) error
	// version stands in for servers whose protocol names none.
	version string
}

var recipes = map[string]recipe{
	servers.Kafka:         kafka,
	servers.RabbitMQ:      rabbitMQ,
	servers.Redis:         redisOne,
	servers.SQS:           sqs,
	servers.Postgres:      postgres,
	servers.MariaDB:       mariaDB,
	servers.RedisCluster:  redisCluster,
	servers.RedisSentinel: redisSentinel,
}

// site is one server being brought up.
type site struct {
	name  string
	dir   string // the server's own folder
	nodes int
	ports map[string]int
	host  *host
	step  func(what string)
}

// siteDir keeps clusters of another size apart: their data does not fit.
func siteDir(root, name string, nodes int) string {
	if nodes > 1 {
		name = fmt.Sprintf("%s-%d", name, nodes)
	}
	return filepath.Join(root, name)
}

func (s *site) at(variable string) string { return local(s.ports[variable]) }

func (s *site) write(name, content string) (string, error) {
	file := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	return file, nil
}

// process is a process of this server.
func (s *site) process(name string, args ...string) process.Spec {
	return process.Spec{Name: name, Dir: s.dir, Args: args}
}

// unprivileged picks the first user that exists when the caller is root, for
// servers that refuse to run as root. Everybody else runs them as themselves.
func unprivileged(candidates ...string) (string, error) {
	if os.Geteuid() != 0 {
		return "", nil
	}
	var err error
	for _, name := range candidates {
		if _, _, err = process.Lookup(name); err == nil {
			return name, nil
		}
	}
	return "", err
}

// dataDir returns the data folder of a server that runs as the given user, and
// whether it is already filled. A repository below /root cannot be entered by
// other users; the data is then kept in /var/tmp instead.
func (s *site) dataDir(name, user string) (dir string, filled bool, err error) {
	base := s.dir
	if user != "" && !enterable(base) {
		base = elsewhere(s.dir)
		if err := os.MkdirAll(base, 0o755); err != nil {
			return "", false, fmt.Errorf("make data folder: %w", err)
		}
	}
	dir = filepath.Join(base, name)
	_, err = os.Stat(dir)
	return dir, err == nil, nil
}

// elsewhere is where dataDir keeps what does not fit below dir.
func elsewhere(dir string) string {
	sum := fnv.New32a()
	sum.Write([]byte(dir))
	return filepath.Join("/var/tmp", fmt.Sprintf("hapax-servers-%s-%08x", filepath.Base(dir), sum.Sum32()))
}

func enterable(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// fill makes a data folder with a command of its own. The command works in a
// folder beside it that is renamed at the end, so that a half-made one is never used.
func fill(ctx context.Context, dir string, user string, make func(dir string) process.Spec) error {
	fresh := dir + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	if err := os.MkdirAll(fresh, 0o700); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	if user != "" {
		uid, gid, err := process.Lookup(user)
		if err != nil {
			return err
		}
		if err := os.Chown(fresh, uid, gid); err != nil {
			return fmt.Errorf("make data folder: %w", err)
		}
	}
	command := make(fresh)
	command.RunAs = user
	if err := process.Run(ctx, command); err != nil {
		return err
	}
	return os.Rename(fresh, dir)
}
