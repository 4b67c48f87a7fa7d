package sqlite_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqlite"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

var levels = []sqldb.Synchronous{sqldb.Normal, sqldb.Full}

func synchronous(level sqldb.Synchronous) func(*sqlite.Config) {
	return func(c *sqlite.Config) { c.Synchronous = level }
}

// cpu is the processor time of this process, which says more than the clock when
// the machine is busy with other things.
func cpu(b *testing.B) time.Duration {
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func start(b *testing.B) time.Duration {
	b.ResetTimer()
	return cpu(b)
}

func perSecond(b *testing.B, messages int, from time.Duration) {
	b.ReportMetric(float64((cpu(b)-from).Microseconds())/float64(messages), "cpu-µs/msg")
	b.ReportMetric(float64(messages)/b.Elapsed().Seconds(), "msgs/s")
	b.ReportMetric(0, "ns/op")
}

func kilobytes(n int, prefix string) []*message.Message {
	payload := make([]byte, 1024)
	msgs := make([]*message.Message, n)
	for i := range msgs {
		msgs[i] = event(fmt.Sprint(prefix, i), "")
		msgs[i].Payload = payload
	}
	return msgs
}

func BenchmarkPublish(b *testing.B) {
	for _, level := range levels {
		for _, shape := range []struct{ callers, batch int }{{1, 1}, {32, 1}, {1, 100}} {
			b.Run(fmt.Sprintf("%s/callers=%d/batch=%d", level, shape.callers, shape.batch), func(b *testing.B) {
				broker := openBroker(b, file(b), synchronous(level))
				publisher := broker.Publisher()
				var left atomic.Int64
				left.Store(int64(b.N))
				from := start(b)
				var all sync.WaitGroup
				for caller := range shape.callers {
					all.Go(func() {
						for left.Add(-1) >= 0 {
							if err := publisher.Publish(input, kilobytes(shape.batch, fmt.Sprint(caller, "-"))...); err != nil {
								b.Error(err)
							}
						}
					})
				}
				all.Wait()
				perSecond(b, b.N*shape.batch, from)
			})
		}
	}
}

// fill publishes n messages before the clock starts.
func fill(b *testing.B, broker *sqlite.Broker, n int) {
	for done := 0; done < n; done += 500 {
		publish(b, broker, kilobytes(min(500, n-done), fmt.Sprint(done, "-"))...)
	}
}

func BenchmarkConsume(b *testing.B) {
	for _, level := range levels {
		b.Run(string(level), func(b *testing.B) {
			broker := openBroker(b, file(b), synchronous(level))
			fill(b, broker, b.N)
			subscriber, err := broker.Subscriber(adapters.Subscription{Group: group})
			require.NoError(b, err)
			router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
			require.NoError(b, err)
			left, done := atomic.Int64{}, make(chan struct{})
			left.Store(int64(b.N))
			router.AddConsumerHandler("bench", input, subscriber, func(*message.Message) error {
				if left.Add(-1) == 0 {
					close(done)
				}
				return nil
			})
			from := start(b)
			go func() { _ = router.Run(context.Background()) }()
			<-done
			drained(b, broker)
			perSecond(b, b.N, from)
			b.StopTimer()
			require.NoError(b, router.Close())
		})
	}
}

func BenchmarkConsumeProduce(b *testing.B) {
	for _, level := range levels {
		for name, handle := range map[string]message.HandlerFunc{"outputs": forward, "outputs+tx": forwardAndInsert} {
			b.Run(fmt.Sprintf("%s/%s", level, name), func(b *testing.B) {
				broker := openBroker(b, file(b), synchronous(level))
				createEffects(b, broker)
				fill(b, broker, b.N)
				// Counting the backlog costs too much to do it all the time.
				left, done := atomic.Int64{}, make(chan struct{})
				left.Store(int64(b.N))
				from := start(b)
				stop := serve(b, broker, func(msg *message.Message) ([]*message.Message, error) {
					if left.Add(-1) == 0 {
						close(done)
					}
					return handle(msg)
				}, nil)
				<-done
				drained(b, broker)
				perSecond(b, b.N, from)
				b.StopTimer()
				stop()
			})
		}
	}
}

func forward(msg *message.Message) ([]*message.Message, error) {
	return []*message.Message{message.NewMessage("", msg.Payload)}, nil
}

func forwardAndInsert(msg *message.Message) ([]*message.Message, error) {
	tx, err := inbox.Tx(msg.Context())
	if err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(msg.Context(), `INSERT INTO effects (event) VALUES (?)`, msg.UUID); err != nil {
		return nil, err
	}
	return forward(msg)
}
