package dedup_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/memory"
)

// batches is a batch handler under test and what it saw.
type batches struct {
	mu     sync.Mutex
	sizes  []int
	seen   map[string]int
	refuse string // event whose batch fails
	panics bool
	exits  bool
}

func (b *batches) handle(msgs []*message.Message) ([]*message.Message, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sizes = append(b.sizes, len(msgs))
	for _, msg := range msgs {
		if msg.UUID == b.refuse && b.panics {
			panic("poison")
		}
		if msg.UUID == b.refuse && b.exits {
			runtime.Goexit()
		}
		if msg.UUID == b.refuse {
			return nil, errInjected
		}
	}
	for _, msg := range msgs {
		b.seen[dedup.EventFrom(msg.Context()).EventID]++
	}
	return nil, nil
}

func batching(t *testing.T, b *batches, size int) message.HandlerFunc {
	b.seen = map[string]int{}
	strategy := strategyOn(memory.New(memory.Config{}))
	t.Cleanup(func() { _ = strategy.Close() })
	middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy})
	require.NoError(t, err)
	return middleware.Batch(b.handle, dedup.Batching{Size: size, Wait: time.Second})
}

// deliverAll hands messages over at once and counts the errors.
func deliverAll(handle message.HandlerFunc, ids ...string) (failed int) {
	var all sync.WaitGroup
	var errs atomic.Int64
	for _, id := range ids {
		all.Go(func() {
			if _, err := handle(order(id)); err != nil {
				errs.Add(1)
			}
		})
	}
	all.Wait()
	return int(errs.Load())
}

func ids(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprint(i))
	}
	return ids
}

func TestABatchTakesEffectOncePerEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &batches{}
		handle := batching(t, b, 10)
		require.Zero(t, deliverAll(handle, ids(10)...))
		require.Equal(t, []int{10}, b.sizes)
		require.Zero(t, deliverAll(handle, ids(13)...)) // ten duplicates, three fresh
		require.Len(t, b.seen, 13)
		for id, times := range b.seen {
			require.Equal(t, 1, times, id)
		}
	})
}

// What a batch handler calls may take so many things at once and no more. Deliveries that
// come just behind the one that fills a batch are of the next.
func TestABatchIsNeverLargerThanItsSize(t *testing.T) {
	const size, deliveries = 2, 10_000
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(16)) // so that they come between any two steps
	b := &batches{}
	handle := batching(t, b, size)
	require.Zero(t, deliverAll(handle, ids(deliveries)...))
	require.Len(t, b.seen, deliveries)
	require.LessOrEqual(t, slices.Max(b.sizes), size)
}

func TestABatchGoesWhenItsFirstMessageHasWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &batches{}
		handle := batching(t, b, 10)
		started := time.Now()
		require.Zero(t, deliverAll(handle, ids(3)...))
		require.Equal(t, time.Second, time.Since(started))
		require.Equal(t, []int{3}, b.sizes)
	})
}

func TestAPoisonMessageFailsAlone(t *testing.T) {
	for name, poison := range map[string]struct{ panics, exits bool }{
		"fails": {}, "panics": {panics: true}, "ends its goroutine": {exits: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &batches{refuse: "4", panics: poison.panics, exits: poison.exits}
				require.Equal(t, 1, deliverAll(batching(t, b, 10), ids(10)...))
				require.Len(t, b.seen, 9)
				for id, times := range b.seen {
					require.Equal(t, 1, times, id)
				}
			})
		})
	}
}

// A handler that ends its goroutine, as FailNow of a test does, has not returned: its event
// is not acknowledged, also when it is the only one.
func TestABatchOfOneWhoseHandlerEndsItsGoroutineFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &batches{refuse: "0", exits: true}
		_, err := batching(t, b, 1)(order("0"))
		require.ErrorContains(t, err, "runtime.Goexit")
	})
}

// A batch that failed is handled again as it was delivered, whatever its handler wrote
// into the messages: an event's ID and digest are read from them.
func TestAFailedBatchIsHandledAgainAsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		strategy := strategyOn(memory.New(memory.Config{}))
		defer strategy.Close()
		middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy})
		require.NoError(t, err)
		var done sync.Map
		handle := middleware.Batch(func(msgs []*message.Message) ([]*message.Message, error) {
			for _, msg := range msgs {
				require.Equal(t, string(order(msg.UUID).Payload), string(msg.Payload))
				require.NoError(t, msg.Context().Err(), "the failed claim's context has ended")
				msg.Payload = []byte("unpacked")
				msg.Metadata.Set(dedup.MetaEventID, "changed")
			}
			for _, msg := range msgs {
				if msg.UUID == "4" {
					return nil, errInjected
				}
			}
			for _, msg := range msgs {
				done.Store(dedup.EventFrom(msg.Context()).EventID, true)
			}
			return nil, nil
		}, dedup.Batching{Size: 10})
		require.Equal(t, 1, deliverAll(handle, ids(10)...))
		for _, id := range ids(10) {
			_, processed := done.Load(id)
			require.Equal(t, id != "4", processed, id)
		}
	})
}

// A batch that waits for company does not outlast the delivery: at a stop nobody else comes.
func TestABatchGoesWhenItsDeliveryEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &batches{}
		handle := batching(t, b, 10)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		msg := order("1")
		msg.SetContext(ctx)
		started := time.Now()
		_, _ = handle(msg)
		require.Equal(t, time.Millisecond, time.Since(started))
	})
}

// Two copies in one batch: one takes effect, the other is a duplicate of it.
func TestCopiesInOneBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &batches{}
		require.Zero(t, deliverAll(batching(t, b, 4), "1", "1", "2", "2"))
		require.Equal(t, map[string]int{"1": 1, "2": 1}, b.seen)
	})
}

func TestAnOutputOfABatchNeedsAnID(t *testing.T) {
	strategy := strategyOn(memory.New(memory.Config{}))
	defer strategy.Close()
	middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy})
	require.NoError(t, err)
	handle := middleware.Batch(func([]*message.Message) ([]*message.Message, error) {
		return message.Messages{message.NewMessage("", nil)}, nil
	}, dedup.Batching{Size: 1})
	_, err = handle(order("1"))
	require.True(t, errors.Is(err, dedup.ErrBatchOutput), "%v", err)
}

// An output of a batch is about any of its events: it inherits a key only if it is that
// of all.
func TestOutputsOfABatchInheritWhatItsEventsShare(t *testing.T) {
	for name, test := range map[string]struct {
		keys [2]string
		want string
	}{
		"one key":  {[2]string{"k", "k"}, "k"},
		"two keys": {[2]string{"k", "other"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				published := &publications{}
				middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: dedup.Plain{Publisher: published}})
				require.NoError(t, err)
				handle := middleware.Batch(func(msgs []*message.Message) (outputs []*message.Message, err error) {
					for _, msg := range msgs {
						output := message.NewMessage("", nil)
						output.Metadata.Set(dedup.MetaTopic, "shipments")
						output.Metadata.Set(dedup.MetaOutputID, "of "+msg.UUID)
						outputs = append(outputs, output)
					}
					return outputs, nil
				}, dedup.Batching{Size: 2})
				var both sync.WaitGroup
				for i, key := range test.keys {
					msg := order(fmt.Sprint(i))
					msg.Metadata.Set(dedup.MetaKey, key)
					msg.Metadata.Set("correlation_id", "of "+key)
					both.Go(func() { _, _ = handle(msg) })
				}
				both.Wait()
				require.Len(t, published.messages, 2)
				for _, output := range published.messages {
					require.Equal(t, test.want, output.Metadata.Get(dedup.MetaKey))
					require.Equal(t, test.want != "", output.Metadata.Get("correlation_id") != "")
				}
			})
		})
	}
}
