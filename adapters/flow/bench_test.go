package flow_test

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/flow"
)

// source is a subscriber that makes its messages out of nothing, so that the
// benchmarks measure the Router and the flow alone.
type source struct {
	count  int
	lanes  []string // of delivery i: lanes[i%len(lanes)]
	window int
	bare   bool // no flow: messages go straight to the channel

	acked atomic.Int64
	ended sync.WaitGroup
}

type synthetic struct {
	source *source
	lane   string
}

func (s synthetic) Message() *message.Message     { return message.NewMessage("", nil) }
func (s synthetic) Lane() string                  { return s.lane }
func (s synthetic) Acked()                        { s.source.acked.Add(1) }
func (s synthetic) Nacked() (time.Duration, bool) { return 0, false }
func (s synthetic) Abandoned()                    {}

func (s *source) Close() error { return nil }

func (s *source) Subscribe(context.Context, string) (<-chan *message.Message, error) {
	if s.bare {
		out := make(chan *message.Message, 64)
		s.ended.Go(func() {
			defer close(out)
			for range s.count {
				out <- message.NewMessage("", nil)
			}
		})
		return out, nil
	}
	f := flow.New(flow.Config{Window: s.window})
	s.ended.Go(func() {
		for i := range s.count {
			if f.Offer(context.Background(), synthetic{s, s.lanes[i%len(s.lanes)]}) != nil {
				return
			}
		}
		for f.Room() < s.window {
			time.Sleep(100 * time.Microsecond)
		}
		_ = f.Drain(context.Background())
	})
	return f.Messages(), nil
}

func run(b *testing.B, s *source, handle message.NoPublishHandlerFunc) {
	b.ReportAllocs()
	s.count = b.N
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	require.NoError(b, err)
	router.AddConsumerHandler("bench", "topic", s, handle)
	before := cpu(b)
	b.ResetTimer()
	require.NoError(b, router.Run(context.Background()))
	s.ended.Wait()
	b.StopTimer()
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
	if !s.bare {
		require.EqualValues(b, b.N, s.acked.Load())
	}
}

// cpu is the processor time that the process has used: on a shared machine it
// says more than the time on the wall.
func cpu(b *testing.B) time.Duration {
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func keys(n int) []string {
	lanes := make([]string, n)
	for i := range lanes {
		lanes[i] = "key-" + strconv.Itoa(i)
	}
	return lanes
}

func noop(*message.Message) error { return nil }

// slowly makes one message in every n slow.
func slowly(n int64, by time.Duration) message.NoPublishHandlerFunc {
	var count atomic.Int64
	return func(*message.Message) error {
		if count.Add(1)%n == 0 {
			time.Sleep(by)
		}
		return nil
	}
}

func sleep(by time.Duration) message.NoPublishHandlerFunc { return slowly(1, by) }

// Without a flow: what the Router costs.
func BenchmarkRouterAlone(b *testing.B) { run(b, &source{bare: true}, noop) }
func BenchmarkRouterAloneSlow(b *testing.B) {
	run(b, &source{bare: true}, slowly(1000, 10*time.Millisecond))
}

func BenchmarkFlowUnkeyed(b *testing.B) { run(b, &source{window: 1000, lanes: []string{""}}, noop) }
func BenchmarkFlow100Keys(b *testing.B) { run(b, &source{window: 1000, lanes: keys(100)}, noop) }
func BenchmarkFlow100kKeys(b *testing.B) {
	run(b, &source{window: 1000, lanes: keys(100_000)}, noop)
}
func BenchmarkFlowOneSlowIn1000(b *testing.B) {
	run(b, &source{window: 1000, lanes: []string{""}}, slowly(1000, 10*time.Millisecond))
}
func BenchmarkFlowAllSlow(b *testing.B) {
	run(b, &source{window: 1000, lanes: []string{""}}, sleep(5*time.Millisecond))
}
func BenchmarkFlow100KeysSlow(b *testing.B) {
	run(b, &source{window: 1000, lanes: keys(100)}, sleep(500*time.Microsecond))
}
