package launch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/internal/servers"
)

const fakeRedis = "HAPAX_FAKE_REDIS"

// TestMain turns this test program into a small Redis when the launcher starts
// it as one: a real process, with nothing to install.
func TestMain(m *testing.M) {
	if config := os.Getenv(fakeRedis); config != "" {
		fmt.Fprintln(os.Stderr, serve(config))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func serve(config string) error {
	text, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	port := regexp.MustCompile(`(?m)^port (\d+)$`).FindSubmatch(text)
	s, err := server.NewServer("127.0.0.1:" + string(port[1]))
	if err != nil {
		return err
	}
	s.Register("PING", func(c *server.Peer, _ string, _ []string) { c.WriteInline("PONG") })
	s.Register("INFO", func(c *server.Peer, _ string, _ []string) { c.WriteBulk("redis_version:9.9.9\r\n") })
	fmt.Println("serving")
	select {} // until killed
}

// machine is a host whose PATH has the fake server and no Docker.
func machine(t *testing.T) Options {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	bin := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\n%s=\"$1\" exec %q\n", fakeRedis, program)
	require.NoError(t, os.WriteFile(filepath.Join(bin, "redis-server"), []byte(script), 0o755))
	t.Setenv("PATH", bin)
	o := Options{Dir: t.TempDir(), Root: t.TempDir(), Only: []string{servers.Redis}, Out: &bytes.Buffer{}}
	t.Setenv(servers.DirVariable, o.Dir)
	t.Setenv(servers.Variable(servers.Redis), "")
	l, err := net.Listen("tcp", "127.0.0.1:0") // away from a real one that runs
	require.NoError(t, err)
	t.Setenv(redisPort, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	require.NoError(t, l.Close())
	t.Cleanup(func() {
		down := o
		down.Only = nil
		require.NoError(t, Down(context.WithoutCancel(t.Context()), down, true))
	})
	return o
}

func mustUp(t *testing.T, o Options) Result {
	t.Helper()
	results, err := Up(t.Context(), o)
	require.NoError(t, err)
	require.Len(t, results, 1)
	require.NoError(t, results[0].Err)
	return results[0]
}

func pidOf(t *testing.T, r Result) int {
	t.Helper()
	data, err := os.ReadFile(r.Processes[0].PIDFile())
	require.NoError(t, err)
	var id struct{ PID int }
	require.NoError(t, json.Unmarshal(data, &id))
	return id.PID
}

func TestUpIsRepeatableAndDownStopsIt(t *testing.T) {
	o := machine(t)
	first := mustUp(t, o)
	require.Equal(t, "9.9.9", first.Version)
	require.Equal(t, servers.FromNative, first.Origin)
	before := pidOf(t, first)
	mustUp(t, o)
	require.Equal(t, before, pidOf(t, first))

	found, ok := servers.Find(servers.Redis)
	require.True(t, ok)
	require.Equal(t, first.Address, found)

	require.NoError(t, Down(t.Context(), o, false))
	require.False(t, first.Processes[0].Alive())
	_, ok = servers.Find(servers.Redis)
	require.False(t, ok)
	require.FileExists(t, first.Processes[0].LogFile(), "logs are kept")
	require.NoError(t, Down(t.Context(), o, false), "down of nothing is fine")
	require.NoError(t, Down(t.Context(), o, true))
	require.NoDirExists(t, filepath.Join(o.Dir, servers.Redis))
}

func TestUpStartsAKilledServerOnItsOldPort(t *testing.T) {
	o := machine(t)
	first := mustUp(t, o)
	before := pidOf(t, first)
	require.NoError(t, syscall.Kill(before, syscall.SIGKILL))
	require.Eventually(t, func() bool { return !first.Processes[0].Alive() }, 5*time.Second, 5*time.Millisecond)
	second := mustUp(t, o)
	require.Equal(t, first.Hosts, second.Hosts)
	require.NotEqual(t, before, pidOf(t, second))
}

func TestRestartComesBackWithAnotherProcess(t *testing.T) {
	first := mustUp(t, machine(t))
	before := pidOf(t, first)
	for _, hard := range []bool{servers.Clean, servers.Hard} {
		require.NoError(t, servers.Restart(t.Context(), servers.Redis, hard))
		require.NotEqual(t, before, pidOf(t, first))
		before = pidOf(t, first)
	}
}

func TestDownStopsWhatWasNeverRecorded(t *testing.T) {
	o := machine(t)
	first := mustUp(t, o)
	require.NoError(t, os.Remove(servers.StateFile(o.Dir)))
	require.NoError(t, Down(t.Context(), o, false))
	require.False(t, first.Processes[0].Alive())
}

func TestUpMovesAwayFromAStrangersPort(t *testing.T) {
	o := machine(t)
	strangers := taken(t)
	t.Setenv(redisPort, strconv.Itoa(strangers))
	require.NotEqual(t, []string{local(strangers)}, mustUp(t, o).Hosts)
}

func TestUpOnlyChecksAnAddressInTheEnvironment(t *testing.T) {
	o := machine(t)
	given := mustUp(t, o)
	other := o
	other.Dir = t.TempDir()
	t.Setenv(servers.Variable(servers.Redis), given.Hosts[0])
	checked := mustUp(t, other)
	require.Equal(t, servers.FromEnvironment, checked.Origin)
	require.Equal(t, "9.9.9", checked.Version)
	require.NoFileExists(t, servers.StateFile(other.Dir))

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	t.Setenv(servers.Variable(servers.Redis), l.Addr().String())
	results, err := Up(t.Context(), other)
	require.NoError(t, err)
	require.ErrorContains(t, results[0].Err, "the address in HAPAX_TEST_REDIS does not answer")
}

func TestAServerThatDiesIsReportedAtOnceWithItsLog(t *testing.T) {
	o := machine(t)
	script := "#!/bin/sh\necho cannot serve today\nexit 3\n"
	require.NoError(t, os.WriteFile(filepath.Join(os.Getenv("PATH"), "redis-server"), []byte(script), 0o755))
	begun := time.Now()
	results, err := Up(t.Context(), o)
	require.NoError(t, err)
	require.ErrorContains(t, results[0].Err, "cannot serve today")
	require.Less(t, time.Since(begun), servers.StartTimeout/2)
}

// docker puts an engine into the machine whose containers end as soon as they are
// started, and returns the commands it gets.
func docker(t *testing.T, o Options) (commands func() string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(o.Root, "compose.yaml"), nil, 0o644))
	log := filepath.Join(t.TempDir(), "commands")
	script := fmt.Sprintf(`#!/bin/sh
echo "$@" >> %q
case "$*" in
*" ps -a --status exited "*) echo redis ;;
*" logs "*" redis") echo cannot serve today ;;
esac
`, log)
	require.NoError(t, os.WriteFile(filepath.Join(os.Getenv("PATH"), "docker"), []byte(script), 0o755))
	return func() string {
		text, err := os.ReadFile(log)
		require.NoError(t, err)
		require.NoError(t, os.Remove(log))
		return string(text)
	}
}

func TestAContainerThatEndsIsReportedAtOnceWithItsLog(t *testing.T) {
	o := machine(t)
	docker(t, o)
	begun := time.Now()
	require.Equal(t, servers.FromNative, mustUp(t, o).Origin)
	require.Less(t, time.Since(begun), servers.StartTimeout/2)
	require.Contains(t, o.Out.(*bytes.Buffer).String(), "docker compose failed: cannot serve today")
}

func TestDownTakesContainersThatWereNeverRecorded(t *testing.T) {
	o := machine(t)
	commands := docker(t, o)
	require.NoError(t, Down(t.Context(), o, false))
	require.Regexp(t, `--profile \* stop redis\n$`, commands())
	require.NoError(t, Down(t.Context(), o, true))
	require.Regexp(t, `--profile \* down -v redis\n$`, commands())
	o.Only = []string{servers.Kafka}
	require.NoError(t, Down(t.Context(), o, true))
	require.Regexp(t, ` down -v kafka kafka-1 kafka-2 kafka-3\n$`, commands())
	o.Only = nil
	require.NoError(t, Down(t.Context(), o, true))
	require.Regexp(t, ` down -v\n$`, commands(), "all, so that no volume or network is left")
}

func TestAMissingServerSaysHowToGetIt(t *testing.T) {
	o := machine(t)
	t.Setenv("PATH", t.TempDir())
	results, err := Up(t.Context(), o)
	require.NoError(t, err)
	rows, missing := Table(results)
	require.Equal(t, []string{servers.Redis, "", "not up", "", ""}, rows[1])
	for _, want := range []string{"docker compose:", "no apt-get here", "start Docker", "HAPAX_TEST_REDIS"} {
		require.Contains(t, missing, want)
	}
}

func TestUpRefusesWhatItDoesNotKnow(t *testing.T) {
	o := machine(t)
	bad := o
	bad.Only = []string{"nats"}
	_, err := Up(t.Context(), bad)
	require.ErrorContains(t, err, `unknown server "nats"`)
	bad = o
	bad.Nodes = 2
	_, err = Up(t.Context(), bad)
	require.ErrorContains(t, err, "2 kafka nodes: expected 1 or 3")
}

func TestEveryServerHasARecipe(t *testing.T) {
	for _, name := range servers.Names() {
		require.Contains(t, recipes, name)
		require.True(t, strings.HasPrefix(recipes[name].ports(1)[0].variable, "HAPAX_PORT_"))
	}
}
