package dedup_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/memory"
)

func TestADuplicateIsAcknowledgedWithoutRunningTheHandler(t *testing.T) {
	r := newRig(rightOrder)
	defer r.stop()
	runs := r.returns("shipment")
	require.True(t, r.deliver(order("1")))
	require.True(t, r.deliver(order("1")))
	require.True(t, r.deliver(order("2")))
	require.Equal(t, 2, *runs)
	require.Len(t, r.published.ids(), 2)
}

// A copy that arrives while the first is handled waits for the outcome: it is a
// duplicate if the first commits.
func TestAnInFlightCopyWaitsForTheOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		strategy := strategyOn(memory.New(memory.Config{}))
		defer strategy.Close()
		middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy, InFlightWait: time.Minute})
		require.NoError(t, err)
		runs := atomic.Int32{}
		handle := middleware.Wrap(func(*message.Message) ([]*message.Message, error) {
			runs.Add(1)
			time.Sleep(40 * time.Second)
			return nil, nil
		})
		first := make(chan error, 1)
		go func() { _, err := handle(order("1")); first <- err }()
		synctest.Wait()
		_, err = handle(order("1"))
		require.NoError(t, err)
		require.NoError(t, <-first)
		require.EqualValues(t, 1, runs.Load())

		// Bounded: a copy of an event that takes longer goes back.
		go func() { _, err := handle(order("2")); first <- err }()
		go func() { time.Sleep(20 * time.Second); _, err := handle(order("3")); first <- err }()
		synctest.Wait()
		impatient, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy, InFlightWait: time.Second})
		require.NoError(t, err)
		started := time.Now()
		_, err = impatient.Wrap(nil)(order("2"))
		require.ErrorIs(t, err, dedup.ErrInFlight)
		require.LessOrEqual(t, time.Since(started), time.Second)
		require.NoError(t, <-first)
		require.NoError(t, <-first)
	})
}

func TestConflictsCanBeIgnored(t *testing.T) {
	strategy := strategyOn(memory.New(memory.Config{}))
	defer strategy.Close()
	middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy, OnConflict: dedup.Ignore})
	require.NoError(t, err)
	runs := 0
	handle := middleware.Wrap(func(*message.Message) ([]*message.Message, error) { runs++; return nil, nil })
	changed := order("1")
	changed.Payload = []byte("encoded anew")
	for _, msg := range []*message.Message{order("1"), changed} {
		_, err := handle(msg)
		require.NoError(t, err)
	}
	require.Equal(t, 1, runs)
}

// With the content's hash for an ID, a copy that the producer has encoded anew is the same
// event, and no conflict.
func TestCopiesOfOneContentDoNotConflict(t *testing.T) {
	strategy := strategyOn(memory.New(memory.Config{}))
	defer strategy.Close()
	middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy, Identity: dedup.Identity{IgnoreUUID: true, ContentHash: true}})
	require.NoError(t, err)
	runs := 0
	handle := middleware.Wrap(func(*message.Message) ([]*message.Message, error) { runs++; return nil, nil })
	for _, payload := range []string{`{"order":1,"item":"book"}`, `{ "item": "book", "order": 1.0 }`} {
		_, err := handle(message.NewMessage("drawn anew", []byte(payload)))
		require.NoError(t, err)
	}
	require.Equal(t, 1, runs)
}

// Outputs say where they come from, and a handler that returns copies of its
// input does not send two events under one ID.
func TestOutputsAreStamped(t *testing.T) {
	r := newRig(rightOrder)
	defer r.stop()
	r.handle = func(msg *message.Message) ([]*message.Message, error) {
		chosen := message.NewMessage("", []byte("c"))
		chosen.Metadata.Set(dedup.MetaTopic, "elsewhere")
		chosen.Metadata.Set(dedup.MetaOutputID, "chosen")
		chosen.Metadata.Set(dedup.MetaKey, "")
		return message.Messages{msg.Copy(), message.NewMessage("", nil), chosen}, nil
	}
	input := order("1")
	input.Metadata.Set(dedup.MetaEventID, "event-1")
	input.Metadata.Set("correlation_id", "c-1")
	input.Metadata.Set(dedup.MetaKey, "k-1")
	require.True(t, r.deliver(input))

	ids := r.published.ids()
	require.Equal(t, []string{dedup.NewID(scope, "event-1").Output(0), dedup.NewID(scope, "event-1").Output(1), "chosen"}, ids)
	require.Equal(t, "k-1", r.published.messages[0].Metadata.Get(dedup.MetaKey))
	require.Equal(t, "k-1", r.published.messages[1].Metadata.Get(dedup.MetaKey), "inherited, so that order is kept down the chain")
	require.Empty(t, r.published.messages[2].Metadata.Get(dedup.MetaKey))
	for _, output := range r.published.messages {
		require.Equal(t, "event-1", output.Metadata.Get(dedup.MetaCause))
		require.Equal(t, "c-1", output.Metadata.Get("correlation_id"))
		require.NotEmpty(t, output.UUID)
		require.NotContains(t, output.Metadata, dedup.MetaTopic)
		require.NotContains(t, output.Metadata, dedup.MetaOutputID)
		_, err := time.Parse(time.RFC3339Nano, output.Metadata.Get(dedup.MetaPublishedAt))
		require.NoError(t, err)
	}
}

// The claim's context is over when the handler returns, so outer middlewares must
// find the delivery's own again.
func TestTheDeliverysContextIsRestored(t *testing.T) {
	strategy := strategyOn(memory.New(memory.Config{}))
	defer strategy.Close()
	middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy})
	require.NoError(t, err)
	msg := order("1")
	type key struct{}
	msg.SetContext(context.WithValue(t.Context(), key{}, "delivered"))
	delivered := msg.Context()
	_, err = middleware.Wrap(func(msg *message.Message) ([]*message.Message, error) {
		require.Equal(t, "1", dedup.EventFrom(msg.Context()).EventID)
		require.Equal(t, "delivered", msg.Context().Value(key{}))
		return nil, nil
	})(msg)
	require.NoError(t, err)
	require.Equal(t, delivered, msg.Context())
	require.Nil(t, dedup.EventFrom(msg.Context()))
}

// raced is an optimistic strategy whose commit always comes second.
type raced struct{ dedup.Plain }

type racedClaim struct{ dedup.Claim }

func (s raced) Claim(ctx context.Context, events []*dedup.Event) (dedup.Claim, error) {
	claim, err := s.Plain.Claim(ctx, events)
	return racedClaim{claim}, err
}

func (racedClaim) Commit(context.Context, []dedup.Output) error { return dedup.ErrLostRace }

func (racedClaim) Release(context.Context) { panic("a lost race has nothing to release") }

// The winner's mark is durable, so the loser is a duplicate.
func TestALostRaceIsAcknowledged(t *testing.T) {
	r := newRig(func(r *rig) message.HandlerMiddleware { return r.middleware(raced{}) })
	defer r.stop()
	r.returns("shipment")
	require.True(t, r.deliver(order("1")))
	require.Empty(t, r.published.ids())
}

func TestConfigurationErrors(t *testing.T) {
	_, err := dedup.New(dedup.Config{Strategy: dedup.Plain{}})
	require.EqualError(t, err, "configure dedup: scope is {Service: Handler:}, expected a service and a handler")
	_, err = dedup.New(dedup.Config{Scope: scope})
	require.EqualError(t, err, "configure dedup: no strategy")
	_, err = dedup.New(dedup.Config{Scope: scope, Strategy: dedup.Plain{}, OnConflict: "drop"})
	require.EqualError(t, err, `configure dedup: conflict policy is "drop", expected "quarantine" or "ignore"`)
	_, err = dedup.New(dedup.Config{Scope: scope, Strategy: dedup.Plain{}, Identity: dedup.Identity{Pointer: "order/id"}})
	require.ErrorContains(t, err, `configure dedup: parse pointer "order/id": `)
}

func TestAnOutputWithoutTopicIsRefused(t *testing.T) {
	strategy := strategyOn(memory.New(memory.Config{}))
	defer strategy.Close()
	middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy})
	require.NoError(t, err)
	_, err = middleware.Wrap(func(*message.Message) ([]*message.Message, error) {
		return message.Messages{message.NewMessage("u", nil)}, nil
	})(order("1"))
	require.EqualError(t, err, `commit event "1": output cannot be published: output u has no topic: return it to one with framework.To, or emit it to one`)
}

// Handlers hand the delivery's metadata on, and give one map to several outputs. Each
// output has its own ID all the same, and the delivery stays as it was.
func TestOutputsMayShareMetadata(t *testing.T) {
	published := &publications{}
	middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: dedup.Plain{Publisher: published}})
	require.NoError(t, err)
	headers := message.Metadata{"tenant": "a"}
	handle := middleware.Wrap(func(msg *message.Message) ([]*message.Message, error) {
		outputs := message.Messages{message.NewMessage("a", nil), message.NewMessage("b", nil), message.NewMessage("c", nil), message.NewMessage("d", nil)}
		outputs[0].Metadata, outputs[1].Metadata = msg.Metadata, msg.Metadata
		outputs[2].Metadata, outputs[3].Metadata = headers, headers
		return outputs, nil
	})
	in := order("1")
	in.Metadata.Set(dedup.MetaTopic, "shipments")
	headers.Set(dedup.MetaTopic, "shipments")
	_, err = handle(in)
	require.NoError(t, err)

	id := dedup.NewID(scope, "1")
	require.Equal(t, []string{id.Output(0), id.Output(1), id.Output(2), id.Output(3)}, published.ids())
	require.Equal(t, message.Metadata{dedup.MetaTopic: "shipments"}, in.Metadata)
	require.Equal(t, message.Metadata{dedup.MetaTopic: "shipments", "tenant": "a"}, headers)
}

// A nil among the outputs is the handler's error, of the event alone.
func TestANilOutputIsRefused(t *testing.T) {
	published := &publications{}
	middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: dedup.Plain{Publisher: published}})
	require.NoError(t, err)
	forgetful := func(...*message.Message) ([]*message.Message, error) {
		return []*message.Message{message.NewMessage("a", nil), nil}, nil
	}
	_, err = middleware.Wrap(func(msg *message.Message) ([]*message.Message, error) { return forgetful(msg) })(order("1"))
	require.ErrorIs(t, err, dedup.ErrBadOutput)
	require.ErrorContains(t, err, "number 1 of 2 that the handler returned is nil")
	batch := middleware.Batch(func(msgs []*message.Message) ([]*message.Message, error) { return forgetful(msgs...) }, dedup.Batching{Size: 1})
	_, err = batch(order("2"))
	require.ErrorIs(t, err, dedup.ErrBadOutput)
	require.Empty(t, published.ids())
}

// expecting records what the middleware tells and asks its strategy.
type expecting struct {
	*dedup.LedgerStrategy
	calls []string
}

func (e *expecting) Expect(id dedup.ID) {
	e.calls = append(e.calls, "expect "+id.String())
	e.LedgerStrategy.Expect(id)
}

func (e *expecting) Claim(ctx context.Context, events []*dedup.Event) (dedup.Claim, error) {
	e.calls = append(e.calls, "claim "+events[0].ID.String())
	return e.LedgerStrategy.Claim(ctx, events)
}

func TestAStrategyMayExpectTheIDThatItIsAskedFor(t *testing.T) {
	strategy := &expecting{LedgerStrategy: strategyOn(memory.New(memory.Config{}))}
	defer strategy.Close()
	middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy})
	require.NoError(t, err)
	handle := middleware.Wrap(func(*message.Message) ([]*message.Message, error) { return nil, nil })
	_, err = handle(order("1"))
	require.NoError(t, err)
	id := dedup.NewID(scope, "1").String()
	require.Equal(t, []string{"expect " + id, "claim " + id}, strategy.calls)
}
