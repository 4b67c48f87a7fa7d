package servers

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// recorded makes a servers' folder whose state file has a Redis at host.
func recorded(t *testing.T, host string) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv(DirVariable, dir)
	for _, name := range Names() {
		t.Setenv(Variable(name), "")
	}
	a, err := ParseAddress(Redis, host)
	require.NoError(t, err)
	a.Origin, a.Version = FromNative, "7.0.15"
	require.NoError(t, State{Redis: {Address: a, Nodes: 1}}.Write(dir))
	return dir
}

func listening(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func refused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

func TestFindReadsTheEnvironmentBeforeTheStateFile(t *testing.T) {
	host := listening(t)
	recorded(t, host)
	a, ok := Find(Redis)
	require.True(t, ok)
	require.Equal(t, FromNative, a.Origin)
	require.Equal(t, []string{host}, a.Hosts)

	t.Setenv(Variable(Redis), "other:1")
	a, ok = Find(Redis)
	require.True(t, ok)
	require.Equal(t, FromEnvironment, a.Origin)
	require.Equal(t, []string{"other:1"}, a.Hosts)
}

func TestFindDoesNotBelieveARecordWhereNothingListens(t *testing.T) {
	recorded(t, refused(t))
	_, ok := Find(Redis)
	require.False(t, ok)
	_, err := locate(Redis)
	require.ErrorContains(t, err, "no longer listens")
	_, err = locate(Kafka)
	require.ErrorContains(t, err, "run `make servers`, or give its address in HAPAX_TEST_KAFKA")
}

func TestADamagedStateFileIsNamed(t *testing.T) {
	dir := recorded(t, "a:1")
	require.NoError(t, os.WriteFile(StateFile(dir), []byte("{"), 0o644))
	_, err := ReadState(dir)
	require.ErrorContains(t, err, StateFile(dir))
}

func TestDirIsBesideTheModule(t *testing.T) {
	t.Setenv(DirVariable, "")
	dir, err := Dir()
	require.NoError(t, err)
	require.Equal(t, ".servers", filepath.Base(dir))
	require.FileExists(t, filepath.Join(filepath.Dir(dir), "go.mod"))
}

func TestServersFromTheEnvironmentAreNotRestarted(t *testing.T) {
	recorded(t, "a:1")
	t.Setenv(Variable(Redis), "b:1")
	require.ErrorContains(t, Restart(t.Context(), Redis, Hard), "not ours to stop")
	require.ErrorContains(t, Restart(t.Context(), SQS, Hard), "no sqs server")
	require.ErrorContains(t, KillNode(t.Context(), 1), "no kafka server")
}
