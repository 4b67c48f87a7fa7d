package dedup_test

import (
	"context"
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

// outcomes notes what an observer is told.
type outcomes struct {
	mu   sync.Mutex
	told []dedup.Outcome
}

func (o *outcomes) Observe(_ *dedup.Event, outcome dedup.Outcome, _ error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.told = append(o.told, outcome)
}

// A store that cannot be asked decides nothing: the delivery goes back, unhandled.
func TestAClaimThatFailsIsNotAcknowledged(t *testing.T) {
	strategy := strategyOn(broken{Ledger: memory.New(memory.Config{}), claim: func([]*dedup.Entry) error { return errInjected }})
	defer strategy.Close()
	observer := &outcomes{}
	middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy, Observer: observer})
	require.NoError(t, err)
	_, err = middleware.Wrap(nil)(order("1"))
	var step *dedup.StepError
	require.ErrorAs(t, err, &step)
	require.Equal(t, "claim", step.Step)
	require.ErrorIs(t, err, errInjected)
	require.True(t, step.Infrastructure())
	require.Equal(t, []dedup.Outcome{dedup.Failed}, observer.told)
}

// careless is a strategy that leaves an event undecided.
type careless struct{ dedup.Plain }

func (careless) Claim(context.Context, []*dedup.Event) (dedup.Claim, error) { return nil, nil }

func TestAnUndecidedEventIsNotAcknowledged(t *testing.T) {
	middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: careless{}})
	require.NoError(t, err)
	_, err = middleware.Wrap(nil)(order("1"))
	require.EqualError(t, err, `claim event "1": strategy left it undecided`)
}

// A service that stops does not wait for the outcome of a copy elsewhere.
func TestTheWaitForACopyEndsWithTheDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		strategy := strategyOn(memory.New(memory.Config{}))
		defer strategy.Close()
		_, elsewhere := claimOne(t, strategy, "1")
		middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy, InFlightWait: time.Hour})
		require.NoError(t, err)
		msg := order("1")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		msg.SetContext(ctx)
		started := time.Now()
		_, err = middleware.Wrap(nil)(msg)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(started)) // of the bubble's clock
		elsewhere.Release(t.Context())
	})
}

// ending counts how its claims end.
type ending struct {
	dedup.Plain
	fail     error
	mu       sync.Mutex
	released []context.Context
	done     int
}

type endingClaim struct {
	dedup.Claim
	of *ending
}

func (e *ending) Claim(ctx context.Context, events []*dedup.Event) (dedup.Claim, error) {
	claim, err := e.Plain.Claim(ctx, events)
	return endingClaim{claim, e}, err
}

func (c endingClaim) Commit(context.Context, []dedup.Output) error {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if c.of.fail == nil {
		c.of.done++
	}
	return c.of.fail
}

func (c endingClaim) Release(ctx context.Context) {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if ctx.Err() == nil { // a store does nothing in one that is over
		c.of.released = append(c.of.released, ctx)
	}
}

// Exactly one of Commit and Release ends a claim; and a release neither depends on the
// delivery, which may be over, nor takes for ever.
func TestEveryClaimEndsOnce(t *testing.T) {
	for name, test := range map[string]struct{ handler, commit error }{
		"processed":      {},
		"handler failed": {handler: errInjected},
		"commit failed":  {commit: errInjected},
	} {
		t.Run(name, func(t *testing.T) {
			strategy := &ending{fail: test.commit}
			middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy})
			require.NoError(t, err)
			msg := order("1")
			delivery, over := context.WithCancel(t.Context())
			msg.SetContext(delivery)
			_, err = middleware.Wrap(func(*message.Message) ([]*message.Message, error) {
				over()
				return nil, test.handler
			})(msg)
			failed := test.handler != nil || test.commit != nil
			require.Equal(t, failed, err != nil)
			strategy.ended(t, failed, 1)
		})
	}
}

func (e *ending) ended(t *testing.T, failed bool, claims int) {
	t.Helper()
	if !failed {
		require.Equal(t, claims, e.done)
		require.Empty(t, e.released)
		return
	}
	require.Zero(t, e.done)
	require.Len(t, e.released, claims)
	for _, ctx := range e.released {
		deadline, bounded := ctx.Deadline()
		require.True(t, bounded, "a release must not take for ever")
		require.Less(t, time.Until(deadline), time.Minute)
	}
}

// A batch of several is one claim, which ends once.
func TestTheClaimOfABatchEndsOnce(t *testing.T) {
	for name, fail := range map[string]error{"processed": nil, "commit failed": errInjected} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				strategy := &ending{fail: fail}
				observer := &outcomes{}
				middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy, Observer: observer})
				require.NoError(t, err)
				handle := middleware.Batch(func([]*message.Message) ([]*message.Message, error) { return nil, nil }, dedup.Batching{Size: 2})
				if fail == nil {
					require.Zero(t, deliverAll(handle, "1", "2"))
					strategy.ended(t, false, 1)
					require.Equal(t, []dedup.Outcome{dedup.Processed, dedup.Processed}, observer.told)
					return
				}
				require.Equal(t, 2, deliverAll(handle, "1", "2"))
				strategy.ended(t, true, 3) // the batch's, then that of each
				require.Equal(t, []dedup.Outcome{dedup.Failed, dedup.CommitFailed, dedup.CommitFailed}, observer.told)
			})
		})
	}
}

// A letter that is not out must not let its delivery be acknowledged: the event would be
// lost.
func TestALetterThatIsNotPublishedIsAnError(t *testing.T) {
	published := &publications{fail: errInjected}
	ledger := dedup.NewLedgerStrategy(memory.New(memory.Config{}), published, quiet)
	defer ledger.Close()
	for name, strategy := range map[string]dedup.Strategy{"plain": dedup.Plain{Publisher: published}, "ledger": ledger} {
		t.Run(name, func(t *testing.T) {
			middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy})
			require.NoError(t, err)
			letter := dedup.Output{Topic: "orders.dead", Message: order("1")}
			require.ErrorIs(t, middleware.DeadLetter(t.Context(), order("1"), letter), errInjected)
		})
	}
}

// What a batch cannot take with it is handled singly, never acknowledged with it: events
// in flight elsewhere, in conflict, and without an ID.
func TestABatchAcknowledgesOnlyWhatItProcessed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		strategy := strategyOn(memory.New(memory.Config{}))
		defer strategy.Close()
		observer := &outcomes{}
		middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy, InFlightWait: -1, Observer: observer})
		require.NoError(t, err)
		b := &batches{seen: map[string]int{}}
		handle := middleware.Batch(b.handle, dedup.Batching{Size: 4})

		_, elsewhere := claimOne(t, strategy, "in flight")
		_, other := claimOne(t, strategy, "conflict")
		require.NoError(t, other.Commit(t.Context(), nil))
		conflict := order("conflict")
		conflict.Payload = []byte("of another content")
		_, before := claimOne(t, strategy, "duplicate")
		require.NoError(t, before.Commit(t.Context(), nil))

		msgs := []*message.Message{order("fresh"), order("in flight"), conflict, order("duplicate")}
		errs := make([]error, len(msgs))
		var all sync.WaitGroup
		for i, msg := range msgs {
			all.Go(func() { _, errs[i] = handle(msg) })
		}
		all.Wait()
		require.NoError(t, errs[0])
		require.ErrorIs(t, errs[1], dedup.ErrInFlight)
		require.ErrorIs(t, errs[2], dedup.ErrConflict)
		require.NoError(t, errs[3])
		require.Equal(t, map[string]int{"fresh": 1}, b.seen)
		require.ElementsMatch(t, []dedup.Outcome{dedup.Processed, dedup.AlreadyProcessed, dedup.StillInFlight, dedup.Conflicted}, observer.told)
		elsewhere.Release(t.Context())
	})
}

// An event without an ID is neither guessed about nor acknowledged.
func TestAnEventWithoutIDIsNotAcknowledged(t *testing.T) {
	observer := &outcomes{}
	strategy := strategyOn(memory.New(memory.Config{}))
	defer strategy.Close()
	middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy, Observer: observer})
	require.NoError(t, err)
	_, err = middleware.Wrap(nil)(order(""))
	require.ErrorIs(t, err, dedup.ErrNoID)
	require.Equal(t, []dedup.Outcome{dedup.NoID}, observer.told)
}

func TestABatchWithAnEventWithoutID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &batches{refuse: "none"}
		require.Equal(t, 1, deliverAll(batching(t, b, 3), "1", "", "2"))
		require.Equal(t, map[string]int{"1": 1, "2": 1}, b.seen)
	})
}

// A batch whose claim or mark fails acknowledges nothing.
func TestABatchWhoseStoreFails(t *testing.T) {
	fail := func([]*dedup.Entry) error { return errInjected }
	store := memory.New(memory.Config{})
	for name, ledger := range map[string]dedup.Ledger{
		"claim": broken{Ledger: store, claim: fail},
		"mark":  broken{Ledger: store, complete: fail},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				strategy := strategyOn(ledger)
				defer strategy.Close()
				middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy})
				require.NoError(t, err)
				handle := middleware.Batch(func([]*message.Message) ([]*message.Message, error) { return nil, nil }, dedup.Batching{Size: 3})
				require.Equal(t, 3, deliverAll(handle, "1", "2", "3"))
			})
		})
	}
}

// The message that fills a batch sends it off at once; when it comes at the moment in
// which the first has waited for long enough, the batch runs once all the same.
func TestAFullBatchRunsOnceAndAtOnce(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			b := &batches{}
			handle := batching(t, b, 2)
			started := time.Now()
			require.Zero(t, deliverAll(handle, "1", "2"))
			require.Zero(t, time.Since(started)) // of the bubble's clock

			var both sync.WaitGroup
			var failed atomic.Int32
			for i, id := range []string{"3", "4"} {
				both.Go(func() {
					time.Sleep(time.Duration(i) * time.Second) // what a batch waits
					if _, err := handle(order(id)); err != nil {
						failed.Add(1)
					}
				})
			}
			both.Wait()
			require.Zero(t, failed.Load())
			require.Equal(t, map[string]int{"1": 1, "2": 1, "3": 1, "4": 1}, b.seen)
		})
	}
}

// An output may be made without Watermill's constructor, which would give it a map.
func TestAnOutputWithoutMetadata(t *testing.T) {
	r := newRig(rightOrder)
	defer r.stop()
	r.handle = func(*message.Message) ([]*message.Message, error) {
		return message.Messages{{Payload: []byte("shipment")}}, nil
	}
	require.True(t, r.deliver(order("1")))
	require.Equal(t, []string{dedup.NewID(scope, "1").Output(0)}, r.published.ids())
}

// topics is a publisher that notes what goes where.
type topics struct {
	publications
	to []string
}

func (p *topics) Publish(topic string, messages ...*message.Message) error {
	for _, msg := range messages {
		p.to = append(p.to, topic+" "+string(msg.Payload))
	}
	return nil
}

// Each output goes to its own topic, in the handler's order.
func TestOutputsGoToTheirTopics(t *testing.T) {
	published := &topics{}
	middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: dedup.Plain{Publisher: published}})
	require.NoError(t, err)
	_, err = middleware.Wrap(func(*message.Message) (outputs []*message.Message, _ error) {
		for i, topic := range []string{"a", "a", "b", "a"} {
			output := message.NewMessage("", []byte{byte('0' + i)})
			output.Metadata.Set(dedup.MetaTopic, topic)
			outputs = append(outputs, output)
		}
		return outputs, nil
	})(order("1"))
	require.NoError(t, err)
	require.Equal(t, []string{"a 0", "a 1", "b 2", "a 3"}, published.to)
}
