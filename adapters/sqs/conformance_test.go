package sqs_test

import (
	"flag"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/adaptertest"
	"github.com/hapax-go/hapax/adapters/sqs"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/servers"
)

func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "6") // tests mostly wait
	goleak.VerifyTestMain(m)
}

var (
	quiet  = slog.New(slog.DiscardHandler)
	topics atomic.Int64
)

// newTopic returns a name that no run has used: the server outlives them.
func newTopic() string {
	return fmt.Sprintf("test.%d.%d", dedup.NextToken(), topics.Add(1))
}

// local is a configuration for the server of the tests. It knows no credentials,
// but the SDK insists on some.
func local(t testing.TB) sqs.Config {
	return sqs.Config{
		Endpoint:    servers.Require(t, servers.SQS).URL,
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
		Create:      true,
		// So long that it runs out only where a test waits for that: what comes again
		// before has been given back, and what was deleted in time stays deleted,
		// however slow the machine is.
		VisibilityTimeout: 20 * time.Second,
		WaitTime:          -1, // subscriptions are closed all the time, and polls would be waited for
		Logger:            slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

func open(t testing.TB, config sqs.Config) *sqs.Broker {
	t.Helper()
	broker, err := sqs.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	return broker
}

func harness(config sqs.Config) adaptertest.Harness {
	return adaptertest.Harness{
		Open: func(t *testing.T) adapters.Broker {
			broker, err := sqs.Open(t.Context(), config)
			require.NoError(t, err)
			return broker
		},
		Topic: func(*testing.T) string { return newTopic() },
		// It neither renews nor gives back, and receives no more.
		Abandon: func(_ *testing.T, broker adapters.Broker) { broker.(*sqs.Broker).Abandon() },
		Freeze:  func(_ *testing.T, broker adapters.Broker) { broker.(*sqs.Broker).Freeze() },
		// Longer than the visibility timeout, which the heir of a dead consumer waits for.
		Patience: time.Minute,
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	adaptertest.Run(t, harness(local(t)))
}

func TestConformanceFIFO(t *testing.T) {
	t.Parallel()
	config := local(t)
	config.FIFO = true
	adaptertest.Run(t, harness(config))
}
