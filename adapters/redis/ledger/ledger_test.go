package ledger_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	adapter "github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/adapters/redis/ledger"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/ledgertest"
	"github.com/hapax-go/hapax/internal/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var prefixes atomic.Int64

func conformance(t *testing.T, connect func(*testing.T) redis.UniversalClient) {
	ledgertest.Run(t, func(t *testing.T, options ledgertest.Options) ledgertest.Harness {
		var skew atomic.Int64
		config := ledger.Config{
			Window: options.Window, Prefix: fmt.Sprintf("hapax:test:%d:%d", dedup.NextToken(), prefixes.Add(1)),
			Clock: func() time.Duration { return time.Duration(skew.Load()) },
		}
		open := func() dedup.Ledger {
			l, err := ledger.New(connect(t), config)
			require.NoError(t, err)
			return l
		}
		return ledgertest.Harness{
			Ledger: open(), Peer: open, Reopen: open, Slack: options.Window / 8,
			Advance: func(d time.Duration) { skew.Add(int64(d)) },
		}
	})
}

func TestConformance(t *testing.T) {
	address := servers.Require(t, servers.Redis)
	conformance(t, func(t *testing.T) redis.UniversalClient {
		client := redis.NewClient(&redis.Options{Addr: address.Hosts[0]})
		t.Cleanup(func() { require.NoError(t, client.Close()) })
		return client
	})
}

func TestConformanceInCluster(t *testing.T) {
	address := servers.Require(t, servers.RedisCluster)
	conformance(t, func(t *testing.T) redis.UniversalClient {
		client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: address.Hosts})
		t.Cleanup(func() { require.NoError(t, client.Close()) })
		return client
	})
}

// A ledger that was opened owns its connection.
func TestOpen(t *testing.T) {
	address := servers.Require(t, servers.Redis).Hosts[0]
	connection, err := adapter.ParseURL("redis://" + address + "/0")
	require.NoError(t, err)
	l, err := ledger.Open(t.Context(), connection, ledger.Config{Prefix: fmt.Sprintf("hapax:test:%d", dedup.NextToken())})
	require.NoError(t, err)
	entry := &dedup.Entry{ID: dedup.NewID(dedup.Scope{}, "1"), Token: dedup.NextToken()}
	require.NoError(t, l.Claim(t.Context(), time.Second, []*dedup.Entry{entry}))
	require.Equal(t, dedup.Fresh, entry.Verdict)
	require.NoError(t, l.Close())
	require.NoError(t, l.Close())
	require.Error(t, l.Claim(t.Context(), time.Second, []*dedup.Entry{entry}))

	_, err = ledger.Open(t.Context(), connection, ledger.Config{Window: -1})
	require.ErrorContains(t, err, "window is -1ns")
	connection, err = adapter.ParseURL("redis://u:hunter2@127.0.0.1:1/0")
	require.NoError(t, err)
	_, err = ledger.Open(t.Context(), connection, ledger.Config{})
	require.ErrorContains(t, err, "check that the server runs there")
	require.NotContains(t, err.Error(), "hunter2")
}
