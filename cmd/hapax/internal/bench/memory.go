package bench

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/memory"
)

// memoryBroker measures what stands between broker and handler: the Router, its
// middlewares and ours, fed by a source that costs next to nothing.
func memoryBroker() Broker {
	return Broker{
		Name:     "memory",
		Messages: 150_000,
		Variants: []Variant{
			{Name: Raw, Open: openMemoryRaw},
			{Name: Watermill, Open: memoryLane(func(*sink) dedup.Strategy { return nil })},
			{Name: Hapax, Open: memoryLane(func(s *sink) dedup.Strategy { return dedup.Plain{Publisher: s} })},
			{Name: HapaxDedup, Once: true, Open: memoryLane(func(s *sink) dedup.Strategy {
				ledger := memory.New(memory.Config{Window: time.Hour, MaxEntries: -1})
				return dedup.NewLedgerStrategy(ledger, s, dedup.LedgerOptions{Logger: quiet})
			})},
		},
		Notes: []string{
			"memory: no broker at all, but a source that makes messages and counts acknowledgements. raw is the handler in a goroutine for each message; watermill a Router with Recoverer, CorrelationID and Retry; hapax adds the middleware with deduplication off; hapax-dedup has it on, with the ledger in memory.",
		},
	}
}

// memoryRun is a lane on a source; router is what reads from it.
type memoryRun struct {
	watch  *watch
	source *source
	sink   *sink
	router io.Closer
}

func newMemoryRun(env Env) *memoryRun {
	return &memoryRun{watch: &watch{produce: env.Produce}, source: newSource(env), sink: &sink{}}
}

func memoryLane(strategy func(*sink) dedup.Strategy) func(context.Context, Env) (Lane, error) {
	return func(ctx context.Context, env Env) (Lane, error) {
		run := newMemoryRun(env)
		router, err := startRouter(ctx, route{
			subscriber: run.source, publisher: run.sink, strategy: strategy(run.sink), watch: run.watch,
		})
		if err != nil {
			return nil, err
		}
		run.router = router
		return run, nil
	}
}

// Round implements Lane.
func (r *memoryRun) Round(ctx context.Context, load Load, meter *Meter) (Counts, error) {
	r.sink.published.Store(0)
	meter.Start()
	r.watch.begin(load)
	err := r.source.send(ctx, load)
	meter.Stop()
	if err != nil {
		err = r.watch.because(err)
	}
	return Counts{Handled: int(r.watch.handled.Load()), Outputs: int(r.sink.published.Load())}, err
}

// Close implements Lane.
func (r *memoryRun) Close() error { return errors.Join(r.source.Close(), r.router.Close()) }

// goroutines is what raw has in place of a Router.
type goroutines struct{ sync.WaitGroup }

func (g *goroutines) Close() error {
	g.Wait()
	return nil
}

func openMemoryRaw(_ context.Context, env Env) (Lane, error) {
	run, reader := newMemoryRun(env), &goroutines{}
	run.router = reader
	reader.Go(func() {
		for msg := range run.source.out {
			reader.Go(func() {
				made, err := run.watch.handle(msg)
				if err == nil && len(made) > 0 {
					err = run.sink.Publish(outputs, made...)
				}
				if err != nil {
					run.watch.fail(err)
					msg.Nack()
					return
				}
				run.watch.pace.Load().follow(msg)
				msg.Ack()
			})
		}
	})
	return run, nil
}

// sink is a Publisher that counts.
type sink struct{ published atomic.Int64 }

// Publish implements message.Publisher.
func (s *sink) Publish(_ string, messages ...*message.Message) error {
	s.published.Add(int64(len(messages)))
	return nil
}

// Close implements message.Publisher.
func (s *sink) Close() error { return nil }
