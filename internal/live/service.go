package live

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/written"
)

// patience bounds every wait. A run that is well takes a fraction of it.
const patience = 30 * time.Second

// Service is a running service.
type Service struct {
	command *exec.Cmd
	output  *written.Text
	exited  chan struct{}
	status  error
	stop    func()
	admin   string
}

// Start runs a service's binary in a folder, and waits until it takes messages. Of
// this process's own variables it gets none that begin with HAPAX_. The test's end
// stops it.
func Start(t testing.TB, binary, folder string, environ []string) *Service {
	t.Helper()
	s := &Service{command: exec.Command(binary), output: &written.Text{}, exited: make(chan struct{})}
	s.command.Dir, s.command.Stdout, s.command.Stderr = folder, s.output, s.output
	s.command.Env = append(Without("HAPAX_"), environ...)
	require.NoError(t, s.command.Start())
	go func() { s.status = s.command.Wait(); close(s.exited) }()
	s.stop = sync.OnceFunc(func() { _ = s.command.Process.Signal(syscall.SIGTERM) })
	t.Cleanup(func() {
		s.stop()
		select {
		case <-s.exited:
		case <-time.After(patience):
			_ = s.command.Process.Kill()
			<-s.exited
		}
		if t.Failed() {
			t.Logf("the service said:\n%s", s.output)
		}
	})
	s.wait(t, "ready", func() bool {
		if found := listening.FindStringSubmatch(s.output.String()); found != nil {
			s.admin = "http://" + found[1]
		}
		if s.admin == "" {
			return false
		}
		status, _ := s.get("/readyz")
		return status == http.StatusOK
	})
	return s
}

var listening = regexp.MustCompile(`serving health checks.* address=(\S+)`)

// Without lists this process's variables, but for those with a prefix.
func Without(prefix string) (environ []string) {
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, prefix) {
			environ = append(environ, variable)
		}
	}
	return environ
}

// Counts are a service's deliveries by what became of them: processed, duplicate
// and so on.
type Counts map[string]int

var counter = regexp.MustCompile(`(?m)^hapax_events_total\{[^}]*outcome="([a-z_]+)"[^}]*\} (\S+)$`)

// Counts asks the service for its metrics.
func (s *Service) Counts() Counts {
	counts := Counts{}
	_, text := s.get("/metrics")
	for _, line := range counter.FindAllStringSubmatch(text, -1) {
		value, _ := strconv.ParseFloat(line[2], 64)
		counts[line[1]] += int(value)
	}
	return counts
}

// Await waits until the counts are as they should be.
func (s *Service) Await(t testing.TB, done func(Counts) bool) {
	t.Helper()
	s.wait(t, "done", func() bool { return done(s.Counts()) })
}

// Stop ends the service by SIGTERM. It must drain and exit with status 0.
func (s *Service) Stop(t testing.TB) {
	t.Helper()
	s.stop()
	select {
	case <-s.exited:
		require.NoError(t, s.status)
	case <-time.After(patience):
		require.FailNow(t, "the service does not stop")
	}
}

// wait polls until done, the service's end, or the end of patience.
func (s *Service) wait(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline, ticker := time.After(patience), time.NewTicker(20*time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-s.exited:
			require.FailNow(t, "the service ended by itself", "%v", s.status)
		case <-deadline:
			require.FailNow(t, "the service is not "+what, "counts: %v", s.Counts())
		}
	}
}

func (s *Service) get(path string) (status int, text string) {
	response, err := oneByOne.Get(s.admin + path)
	if err != nil {
		return 0, ""
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(body)
}

// oneByOne keeps no connections, which would outlive a test.
var oneByOne = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
