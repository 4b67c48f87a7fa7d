package launch

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// taken listens on a port and returns it.
func taken(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

func TestPickLeavesAStrangersPortAlone(t *testing.T) {
	strangers := taken(t)
	var p picker
	ports, err := p.pick("redis", []port{{"A", strangers}}, nil)
	require.NoError(t, err)
	require.Greater(t, ports["A"], strangers)
	require.True(t, free(ports["A"]))
}

func TestPickGivesNoPortTwice(t *testing.T) {
	want := taken(t)
	var p picker
	first, err := p.pick("redis", []port{{"A", want}, {"B", want}}, nil)
	require.NoError(t, err)
	second, err := p.pick("kafka", []port{{"C", want}}, nil)
	require.NoError(t, err)
	require.NotEqual(t, first["A"], first["B"])
	require.NotContains(t, []int{first["A"], first["B"]}, second["C"])
}

func TestPickKeepsWhatTheServerHadBefore(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	had := l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	p := picker{reserved: map[int]string{had: "redis"}}
	others, err := p.pick("kafka", []port{{"B", had}}, nil)
	require.NoError(t, err)
	require.NotEqual(t, had, others["B"])
	ports, err := p.pick("redis", []port{{"A", 1}}, map[string]int{"A": had})
	require.NoError(t, err)
	require.Equal(t, had, ports["A"])
}

func TestPickFollowsTheEnvironment(t *testing.T) {
	want := taken(t) + 1
	t.Setenv("HAPAX_PORT_X", "nonsense")
	var p picker
	_, err := p.pick("redis", []port{{"HAPAX_PORT_X", 1}}, nil)
	require.ErrorContains(t, err, `HAPAX_PORT_X="nonsense": expected a port`)
	t.Setenv("HAPAX_PORT_X", "65535")
	ports, err := p.pick("redis", []port{{"HAPAX_PORT_X", want}}, nil)
	require.NoError(t, err)
	require.Equal(t, 65535, ports["HAPAX_PORT_X"])
	_, err = p.pick("kafka", []port{{"HAPAX_PORT_X", want}}, nil)
	require.ErrorContains(t, err, "no free port")
}
