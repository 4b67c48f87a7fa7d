package acceptance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/sqs"
	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/internal/servers/process"
)

// server is a server of a test's own, which it may restart.
type server struct {
	endpoint string
	record   servers.Record
}

// startServer starts a second one of the server of all tests: the same program, with
// a folder and a port of its own. It keeps everything on disk, each message before it
// answers, and until its process ends: a database that closes when the process is asked
// to end does so while the server goes on confirming sends.
func startServer(t *testing.T) *server {
	t.Helper()
	servers.Require(t, servers.SQS)
	dir, err := servers.Dir()
	require.NoError(t, err)
	state, err := servers.ReadState(dir)
	require.NoError(t, err)
	record := state[servers.SQS]
	if len(record.Processes) == 0 {
		servers.NotRun(t, servers.SQS, errors.New("the server is not run by the launcher, so there is no program to run a second one to restart"))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := listener.Addr().(*net.TCPAddr).Port
	require.NoError(t, listener.Close())

	own := record.Processes[0]
	folder := t.TempDir()
	settings := filepath.Join(folder, "elasticmq.conf")
	require.NoError(t, os.WriteFile(settings, fmt.Appendf(nil, `include classpath("application.conf")
node-address { protocol = http, host = 127.0.0.1, port = %[1]d, context-path = "" }
rest-sqs { enabled = true, bind-hostname = "127.0.0.1", bind-port = %[1]d, sqs-limits = strict }
rest-stats { enabled = false }
queues-storage { enabled = true, path = %[2]q }
messages-storage { enabled = true, uri = %[3]q }
`, port, filepath.Join(folder, "queues.conf"), "jdbc:h2:"+filepath.Join(folder, "messages")+";WRITE_DELAY=0;DB_CLOSE_ON_EXIT=FALSE"), 0o644))
	own.Dir, own.Args = folder, slices.Clone(own.Args)
	for i, arg := range own.Args {
		if strings.HasPrefix(arg, "-Dconfig.file=") {
			own.Args[i] = "-Dconfig.file=" + settings
		}
	}
	record.Processes = []process.Spec{own}
	s := &server{endpoint: fmt.Sprintf("http://127.0.0.1:%d", port), record: record}
	t.Cleanup(func() { require.NoError(t, s.record.Stop(context.Background(), servers.Hard)) })
	require.NoError(t, s.start(t.Context()))
	return s
}

// forgot counts how often a queue of the server of all tests forgot everything it had: it
// starts anew, empty, when it meets with an error of its own. 0 when its log is not to be
// had.
func forgot(t *testing.T) int {
	dir, err := servers.Dir()
	require.NoError(t, err)
	state, err := servers.ReadState(dir)
	require.NoError(t, err)
	record, started := state[servers.SQS]
	if !started || len(record.Processes) == 0 {
		return 0
	}
	log, _ := os.ReadFile(record.Processes[0].LogFile())
	return bytes.Count(log, []byte("OneForOneStrategy"))
}

func (s *server) start(ctx context.Context) error {
	for _, own := range s.record.Processes {
		if err := process.Start(own); err != nil {
			return err
		}
	}
	_, err := s.record.Await(ctx, func(ctx context.Context) (string, error) {
		broker, err := sqs.Open(ctx, queueConfig(s.endpoint, false))
		if err != nil {
			return "", err
		}
		return "", broker.Close()
	})
	return err
}

func (s *server) restart(ctx context.Context, hard bool) error {
	if err := s.record.Stop(ctx, hard); err != nil {
		return err
	}
	return s.start(ctx)
}
