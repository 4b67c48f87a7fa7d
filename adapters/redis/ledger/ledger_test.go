package ledger_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

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
