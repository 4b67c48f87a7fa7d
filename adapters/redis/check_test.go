package redis_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/redis"
)

// findings of a server started with some arguments, by name.
func findings(t *testing.T, change func(*redis.Config), args ...string) map[string]adapters.Finding {
	t.Helper()
	server := startServer(t, args...)
	config := redis.Config{Addresses: []string{server.address}, Logger: quiet}
	if change != nil {
		change(&config)
	}
	broker, err := redis.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	byName := map[string]adapters.Finding{}
	for _, finding := range broker.Check(t.Context()) {
		byName[finding.Name] = finding
	}
	return byName
}

func TestCheckOfTheServer(t *testing.T) {
	require.Empty(t, findings(t, nil, "--appendonly", "yes"))

	evicts := findings(t, nil, "--appendonly", "yes", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")["redis-eviction"]
	require.True(t, evicts.Fatal)
	require.Contains(t, evicts.Problem, "allkeys-lru")
	require.Empty(t, findings(t, func(c *redis.Config) { c.AllowEviction = true }, "--appendonly", "yes", "--maxmemory-policy", "allkeys-lru"))
	require.False(t, findings(t, nil, "--appendonly", "yes", "--maxmemory-policy", "volatile-ttl")["redis-eviction"].Fatal)

	require.Contains(t, findings(t, nil, "--appendonly", "no", "--save", "")["redis-persistence"].Problem, "no snapshots")
	require.Contains(t, findings(t, nil, "--appendonly", "no", "--save", "60 1")["redis-persistence"].Problem, "last snapshot")
}

// Scenario 17: what a user can do wrong.
func TestOpenNamesWhatIsWrong(t *testing.T) {
	for message, config := range map[string]redis.Config{
		"expected host:port":     {},
		"expected one in mode":   {Addresses: []string{"a:1", "b:1"}},
		"no master name":         {Mode: redis.Sentinel, Addresses: []string{"a:1"}},
		"a cluster has only":     {Mode: redis.Cluster, Addresses: []string{"a:1"}, DB: 1},
		"expected single,":       {Mode: "multi", Addresses: []string{"a:1"}},
		"heartbeat interval is":  {Addresses: []string{"a:1"}, Lease: 1, HeartbeatInterval: 2},
		"a duration is negative": {Addresses: []string{"a:1"}, Lease: -1},
		"at most 512 MiB":        {Addresses: []string{"a:1"}, MaxPayload: 1 << 30},
		"check that the server":  {Addresses: []string{"127.0.0.1:1"}},
	} {
		_, err := redis.Open(t.Context(), config)
		require.ErrorContains(t, err, message)
	}
	server := startServer(t, "--requirepass", "secret")
	_, err := redis.Open(t.Context(), redis.Config{Addresses: []string{server.address}})
	require.ErrorContains(t, err, "check redis.username and redis.password")
	_, err = redis.Open(t.Context(), redis.Config{Addresses: []string{server.address}, Password: "wrong"})
	require.ErrorContains(t, err, "check redis.username and redis.password")
	broker, err := redis.Open(t.Context(), redis.Config{Addresses: []string{server.address}, Password: "secret"})
	require.NoError(t, err)
	require.NoError(t, broker.Close())
}
