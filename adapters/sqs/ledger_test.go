package sqs_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqs"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/memory"
	"github.com/hapax-go/hapax/internal/servers"
)

// effects runs a Router with a ledger over a topic, and returns the runs of its handler:
// event IDs by key, in their order.
type effects struct {
	mu         sync.Mutex
	byKey      map[string][]string
	total      int
	deliveries int // duplicates included
	errs       []string
}

func (e *effects) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.total
}

func (e *effects) handle(msg *message.Message) ([]*message.Message, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := msg.Metadata.Get(dedup.MetaKey)
	e.byKey[key] = append(e.byKey[key], msg.Metadata.Get(dedup.MetaEventID))
	e.total++
	return nil, nil
}

func (e *effects) note(handle message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		outputs, err := handle(msg)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.deliveries++
		if err != nil {
			e.errs = append(e.errs, err.Error())
		}
		return outputs, err
	}
}

func (e *effects) delivered() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.deliveries
}

// process runs a Router; nil is no ledger, and nobody deduplicates.
func process(t *testing.T, broker *sqs.Broker, topic string, ledger dedup.Ledger, lease time.Duration, e *effects, handle message.HandlerFunc) {
	t.Helper()
	e.byKey = map[string][]string{}
	strategy, release := dedup.Strategy(dedup.Plain{Publisher: broker.Publisher()}), func() error { return nil }
	if ledger != nil {
		over := dedup.NewLedgerStrategy(ledger, broker.Publisher(), dedup.LedgerOptions{Lease: lease, Logger: quiet})
		strategy, release = over, over.Close
	}
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: topic, DrainTimeout: time.Second})
	require.NoError(t, err)
	middleware, err := dedup.New(dedup.Config{Scope: dedup.Scope{Service: "test", Handler: topic}, Strategy: strategy})
	require.NoError(t, err)
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	require.NoError(t, err)
	router.AddConsumerHandler(topic, topic, subscriber, nil).AddMiddleware(
		e.note, middleware.Wrap, func(message.HandlerFunc) message.HandlerFunc { return handle })
	ended := make(chan error, 1)
	go func() { ended <- router.Run(context.WithoutCancel(t.Context())) }()
	<-router.Running()
	t.Cleanup(func() { require.NoError(t, errors.Join(router.Close(), <-ended, release())) })
}

// Entries of batches fail singly, a tenth of the deletes is lost, and the producer
// sends everything again, to a FIFO queue whose five minutes are over: its clock cannot
// be set, so the second copies have other deduplication IDs, which is what the queue
// sees then. Each event takes effect once, in the order of its group; without a ledger,
// more often.
func TestLedgerSeesThroughCopies(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ fifo, control bool }{
		"standard": {}, "standard, control": {control: true}, "fifo": {fifo: true}, "fifo, control": {fifo: true, control: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fifo := test.fifo
			config, faults := local(t), newMiddleware(t)
			config.FIFO, config.HTTPClient, config.VisibilityTimeout = fifo, faults, 2*time.Second
			var failed, lost, copies atomic.Int64
			var mu sync.Mutex
			seen := map[string]int{}
			again := func(what string) int {
				mu.Lock()
				defer mu.Unlock()
				seen[what]++
				return seen[what]
			}
			faults.fail = func(operation string, entry map[string]any) *failure {
				what := fmt.Sprint("fail", operation, entry["MessageBody"], entry["ReceiptHandle"])
				if again(what) > 1 || crc32.ChecksumIEEE([]byte(what))%5 != 0 {
					return nil
				}
				failed.Add(1)
				return &failure{Code: "InternalError", Message: "later"}
			}
			faults.lose = func(operation string, entry map[string]any) bool {
				if operation != "DeleteMessageBatch" || crc32.ChecksumIEEE([]byte(entry["ReceiptHandle"].(string)))%10 != 0 {
					return false
				}
				lost.Add(1)
				return true
			}
			faults.change = func(operation string, entry map[string]any) {
				if id, is := entry["MessageDeduplicationId"]; is && copies.Load() > 0 {
					entry["MessageDeduplicationId"] = fmt.Sprint(id, "-after-the-window-", copies.Load())
				}
			}
			broker, topic := open(t, config), newTopic()
			sent := events(60)
			var e effects
			if test.control {
				process(t, broker, topic, nil, 0, &e, e.handle)
			} else {
				ledger := memory.New(memory.Config{Window: time.Hour})
				t.Cleanup(func() { require.NoError(t, ledger.Close()) })
				process(t, broker, topic, ledger, 10*time.Second, &e, e.handle)
			}
			for range 3 {
				require.NoError(t, broker.Publisher().Publish(topic, sent...))
				copies.Add(1)
			}
			require.Eventually(t, func() bool {
				backlog, err := broker.Backlog(t.Context(), topic)
				return err == nil && backlog == sqs.Backlog{} && e.count() >= len(sent)
			}, 60*time.Second, 50*time.Millisecond)
			require.Positive(t, failed.Load())
			require.Positive(t, lost.Load())
			if test.control {
				require.Greater(t, e.count(), 2*len(sent), "the copies do not reach the handler, so the ledger proved nothing")
				return
			}
			require.Equal(t, len(sent), e.count(), "an effect for each event")
			if fifo {
				want := map[string][]string{}
				for _, msg := range sent {
					key := msg.Metadata.Get(dedup.MetaKey)
					want[key] = append(want[key], msg.UUID)
				}
				require.Equal(t, want, e.byKey)
			}
		})
	}
}

// frozen is a ledger whose heartbeats do not get through.
type frozen struct{ dedup.Ledger }

func (frozen) Renew(context.Context, time.Duration, []*dedup.Entry) error {
	return errors.New("frozen")
}

// A handler is slow, and the heartbeats of its consumer are frozen, those for SQS and
// those for the ledger: another takes over and commits, and the first cannot.
func TestFrozenHeartbeat(t *testing.T) {
	t.Parallel()
	for _, fifo := range []bool{false, true} {
		t.Run(fmt.Sprint("fifo ", fifo), func(t *testing.T) {
			t.Parallel()
			config := local(t)
			config.FIFO, config.VisibilityTimeout = fifo, 2*time.Second
			topic, slow := newTopic(), open(t, config)
			slow.Freeze()
			ledger := memory.New(memory.Config{Window: time.Hour})
			t.Cleanup(func() { require.NoError(t, ledger.Close()) })
			var first, second effects
			begun, over := make(chan struct{}, 1), make(chan struct{})
			process(t, slow, topic, frozen{ledger}, time.Second, &first, func(msg *message.Message) ([]*message.Message, error) {
				begun <- struct{}{}
				<-over
				return first.handle(msg)
			})
			require.NoError(t, slow.Publisher().Publish(topic, event("event", "key")))
			<-begun
			process(t, open(t, config), topic, ledger, 10*time.Second, &second, second.handle)
			require.Eventually(t, func() bool { return second.count() == 1 }, 30*time.Second, 10*time.Millisecond)
			close(over)
			require.Eventually(t, func() bool {
				first.mu.Lock()
				defer first.mu.Unlock()
				return len(first.errs) > 0
			}, 30*time.Second, 10*time.Millisecond)
			require.Contains(t, first.errs[0], dedup.ErrLeaseLost.Error())
			require.Equal(t, 1, second.count())
		})
	}
}

// The real five minutes, on the server's own clock: copies sent within them are dropped
// by the queue, copies sent after them are delivered, and the ledger sees through them.
func TestFIFOWindowEnds(t *testing.T) {
	servers.OnRequest(t, "HAPAX_SOAK", "it takes five minutes")
	t.Parallel()
	config := local(t)
	config.FIFO = true
	broker, topic := open(t, config), newTopic()
	sent := events(30)
	var e effects
	ledger := memory.New(memory.Config{Window: time.Hour})
	t.Cleanup(func() { require.NoError(t, ledger.Close()) })
	process(t, broker, topic, ledger, 10*time.Second, &e, e.handle)
	began := time.Now()
	require.NoError(t, broker.Publisher().Publish(topic, sent...))
	require.Eventually(t, func() bool { return e.delivered() == len(sent) }, time.Minute, 50*time.Millisecond)
	var taken time.Duration // when the queue took a copy
	require.Eventually(t, func() bool {
		err := broker.Publisher().Publish(topic, sent...)
		backlog, uncounted := broker.Backlog(t.Context(), topic)
		if errors.Join(err, uncounted) != nil || backlog == (sqs.Backlog{}) && e.delivered() == len(sent) {
			return false // all of them dropped
		}
		taken = time.Since(began)
		return true
	}, 7*time.Minute, 5*time.Second)
	require.Greater(t, taken, 290*time.Second, "within the five minutes the queue itself drops copies")
	require.NoError(t, broker.Publisher().Publish(topic, sent...)) // what was sent late still had a while
	require.Eventually(t, func() bool {
		backlog, err := broker.Backlog(t.Context(), topic)
		return err == nil && backlog == sqs.Backlog{} && e.delivered() == 2*len(sent)
	}, time.Minute, 50*time.Millisecond)
	require.Equal(t, len(sent), e.count(), "an effect for each event")
	t.Logf("the queue took copies again after %s: %d deliveries, %d effects", taken, e.delivered(), e.count())
}
