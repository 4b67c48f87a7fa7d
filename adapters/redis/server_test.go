package redis_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/servers"
)

// server is a Redis of a test's own, which it may stop, and configure as it likes.
type server struct {
	address string
	tls     *tls.Config
	args    []string
	process *exec.Cmd
}

func startServer(t *testing.T, args ...string) *server { return startTLSServer(t, nil, args...) }

// startTLSServer starts a server that speaks nothing but TLS, unless that is nil.
func startTLSServer(t *testing.T, encryption *tls.Config, args ...string) *server {
	t.Helper()
	s := newServer(t, encryption, args...)
	s.start(t)
	t.Cleanup(func() { s.stop(t, os.Kill) })
	return s
}

func newServer(t *testing.T, encryption *tls.Config, args ...string) *server {
	t.Helper()
	program := servers.RequireProgram(t, "redis-server")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	require.NoError(t, listener.Close())
	ports := []string{"--port", port}
	if encryption != nil {
		ports = []string{"--port", "0", "--tls-port", port}
	}
	return &server{address: address, tls: encryption, args: slices.Concat([]string{program, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--daemonize", "no", "--appendonly", "yes"}, ports, args)}
}

func (s *server) url() string { return "redis://" + s.address }

func (s *server) start(t *testing.T) {
	t.Helper()
	s.process = exec.Command(s.args[0], s.args[1:]...)
	require.NoError(t, s.process.Start())
	client := goredis.NewClient(&goredis.Options{Addr: s.address, TLSConfig: s.tls, MaxRetries: -1})
	defer client.Close()
	require.Eventually(t, func() bool {
		err := client.Ping(context.Background()).Err()
		return err == nil || goredis.HasErrorPrefix(err, "NOAUTH") || goredis.HasErrorPrefix(err, "NOPERM")
	}, 20*time.Second, 10*time.Millisecond, "no answer from %s", fmt.Sprint(s.args))
}

func (s *server) stop(t *testing.T, signal os.Signal) {
	t.Helper()
	if s.process != nil {
		require.NoError(t, s.process.Process.Signal(signal))
		_ = s.process.Wait()
		s.process = nil
	}
}
