package kafka_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/adaptertest"
	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/servers"
)

func TestMain(m *testing.M) {
	fault.ChildMain(map[string]func(context.Context, []string) int{"worker": worker})
	// Of the official adapter's client; it runs as long as the process.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

var quiet = slog.New(slog.DiscardHandler)

func init() {
	if os.Getenv("HAPAX_LOG") != "" {
		quiet = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
}

// names are unique in the run and, because the real cluster outlives it, beyond.
var (
	run    = time.Now().UnixNano()
	number atomic.Int64
)

func newTopic(t testing.TB) string { return fmt.Sprintf("test-%x-%d", run, number.Add(1)) }

// fast are short times, for tests that wait for leases to run out.
func fast(brokers []string) kafka.Config {
	return kafka.Config{
		Brokers: brokers, Logger: quiet, CreateTopics: true, Partitions: 3,
		SessionTimeout: 1500 * time.Millisecond, TransactionTimeout: time.Second, RebalanceTimeout: 10 * time.Second,
		MaxTime: 20 * time.Millisecond, CommitInterval: 20 * time.Millisecond,
	}
}

func realKafka(t testing.TB) []string { return servers.Require(t, servers.Kafka).Hosts }

func fakeKafka(t testing.TB, options ...kfake.Opt) []string {
	t.Helper()
	servers.RanInProcess(t, "kafka", "kfake")
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100 * time.Millisecond)}, options...)...)
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	return cluster.ListenAddrs()
}

func harness(t *testing.T, brokers []string, change func(*kafka.Config)) adaptertest.Harness {
	var cables sync.Map
	return adaptertest.Harness{
		Open: func(t *testing.T) adapters.Broker {
			config := fast(brokers)
			if change != nil {
				change(&config)
			}
			c := kafka.WithCables(&config)
			broker, err := kafka.Open(t.Context(), config)
			require.NoError(t, err)
			cables.Store(broker, c)
			return broker
		},
		Topic: func(t *testing.T) string { return newTopic(t) },
		Abandon: func(_ *testing.T, broker adapters.Broker) {
			c, _ := cables.Load(broker)
			c.(*kafka.Cables).PullAll()
		},
		Freeze: func(_ *testing.T, broker adapters.Broker) {
			c, _ := cables.Load(broker)
			c.(*kafka.Cables).PullGroup()
		},
	}
}

func TestConformance(t *testing.T) {
	adaptertest.Run(t, harness(t, realKafka(t), nil))
}

func TestConformanceOnFake(t *testing.T) {
	adaptertest.Run(t, harness(t, fakeKafka(t), nil))
}
