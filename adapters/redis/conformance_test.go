package redis_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/adaptertest"
	"github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/servers"
)

func TestMain(m *testing.M) {
	// Tests here wait more than they compute.
	if flag.Parse(); runtime.GOMAXPROCS(0) < 12 {
		_ = flag.Set("test.parallel", "12")
	}
	fault.ChildMain(map[string]func(context.Context, []string) int{"worker": worker})
	goleak.VerifyTestMain(m,
		// Watermill's suite leaves the goroutines of a subscriber that it multiplies.
		goleak.IgnoreAnyFunction("github.com/ThreeDotsLabs/watermill/internal/subscriber.(*multiplier).Subscribe.func2"),
		goleak.IgnoreAnyFunction("github.com/ThreeDotsLabs/watermill/internal/subscriber.(*multiplier).Subscribe.func3"))
}

var (
	quiet  = slog.New(slog.DiscardHandler)
	topics atomic.Int64
)

// newTopic returns a name that no run has used: the server outlives them.
func newTopic(testing.TB) string {
	return fmt.Sprintf("test.%d.%d", dedup.NextToken(), topics.Add(1))
}

func harness(config redis.Config) adaptertest.Harness {
	return adaptertest.Harness{
		Open: func(t *testing.T) adapters.Broker {
			config := config
			config.Logger, config.Lease = quiet, time.Second
			broker, err := redis.Open(t.Context(), config)
			require.NoError(t, err)
			return broker
		},
		Topic: func(t *testing.T) string { return newTopic(t) },
		// It neither renews nor leaves; what its handlers hold ends unsettled.
		Abandon: func(_ *testing.T, broker adapters.Broker) { broker.(*redis.Broker).Freeze() },
		Freeze:  func(_ *testing.T, broker adapters.Broker) { broker.(*redis.Broker).Freeze() },
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	adaptertest.Run(t, harness(redis.Config{Addresses: servers.Require(t, servers.Redis).Hosts}))
}

func TestConformanceInCluster(t *testing.T) {
	t.Parallel()
	adaptertest.Run(t, harness(redis.Config{Mode: redis.Cluster, Addresses: servers.Require(t, servers.RedisCluster).Hosts}))
}
