package handlers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/handlers"
	"github.com/hapax-go/hapax/handlers/codec"
)

func TestEmitFollowsReturnedOutputs(t *testing.T) {
	sent, err := run(t, func(ctx context.Context, o order) ([]shipment, error) {
		for i := range 2 {
			if err := handlers.Emit(ctx, "audit", fmt.Sprint("note ", i)); err != nil {
				return nil, err
			}
		}
		return []shipment{{"a"}, {"b"}}, handlers.Emit(ctx, "", order{ID: "last"})
	}, delivered(`{}`))
	require.NoError(t, err)
	require.Equal(t, []string{
		`out {"order":"a"}`, `out {"order":"b"}`, "audit note 0", "audit note 1", `out {"id":"last"}`,
	}, texts(sent))
	for i, p := range sent {
		id := dedup.NewID(scope, "event-1").Output(i)
		require.Equal(t, id, p.Metadata.Get(dedup.MetaEventID), "output %d (I7)", i)
		require.Equal(t, id, p.UUID)
	}
}

func TestEmitOptions(t *testing.T) {
	sent, err := run(t, func(ctx context.Context, o order) error {
		return handlers.Emit(ctx, "audit", "text", handlers.Key("k"), handlers.Meta("a", "1"), handlers.Meta("b", "2"),
			handlers.EventID("mine"), handlers.WithCodec(codec.JSON))
	}, delivered(`{}`))
	require.NoError(t, err)
	require.Equal(t, []string{`audit "text"`}, texts(sent))
	metadata := sent[0].Metadata
	delete(metadata, dedup.MetaPublishedAt)
	require.Equal(t, message.Metadata{
		dedup.MetaEventID: "mine", dedup.MetaKey: "k", "a": "1", "b": "2", dedup.MetaCause: "event-1",
	}, metadata)
}

// One message may be emitted to many topics.
func TestEmitCopiesMessages(t *testing.T) {
	mine := &message.Message{Payload: []byte("x")} // no metadata map
	sent, err := run(t, func(ctx context.Context, _ order) error {
		return errors.Join(handlers.Emit(ctx, "a", mine), handlers.Emit(ctx, "b", mine))
	}, delivered(`{}`))
	require.NoError(t, err)
	require.Equal(t, []string{"a x", "b x"}, texts(sent))
	require.Empty(t, mine.Metadata)
}

// The value may be changed after Emit: it was encoded already.
// Without a key of its own an output has the event's, and an empty one is none.
func TestEmittedKeys(t *testing.T) {
	msg := delivered(`{}`)
	msg.Metadata.Set(dedup.MetaKey, "of the event")
	sent, err := run(t, func(ctx context.Context, _ order) error {
		require.NoError(t, handlers.Emit(ctx, "a", "inherits"))
		require.NoError(t, handlers.Emit(ctx, "a", "none", handlers.Key("")))
		return handlers.Emit(ctx, "a", "own", handlers.Key("k"))
	}, msg)
	require.NoError(t, err)
	require.Len(t, sent, 3)
	for i, want := range []string{"of the event", "", "k"} {
		require.Equal(t, want, sent[i].Metadata.Get(dedup.MetaKey), "%s", sent[i].Payload)
	}
}

// constantMetadata is a codec that gives all its payloads one map.
type constantMetadata struct{ codec.Codec }

var constant = map[string]string{"schema": "7"}

func (c constantMetadata) Marshal(value any, output codec.Output) ([]byte, map[string]string, error) {
	payload, _, err := c.Codec.Marshal(value, output)
	return payload, constant, err
}

func TestEmitLeavesTheCodecsMetadataAlone(t *testing.T) {
	sent, err := run(t, func(ctx context.Context, _ order) error {
		shared := handlers.WithCodec(constantMetadata{codec.JSON})
		require.NoError(t, handlers.Emit(ctx, "a", 1, shared, handlers.Key("k"), handlers.EventID("first")))
		return handlers.Emit(ctx, "b", 2, shared)
	}, delivered(`{}`))
	require.NoError(t, err)
	require.Equal(t, []string{"a 1", "b 2"}, texts(sent))
	require.Equal(t, "first", sent[0].Metadata.Get(dedup.MetaEventID))
	require.Empty(t, sent[1].Metadata.Get(dedup.MetaKey))
	require.Equal(t, map[string]string{"schema": "7"}, constant)
}

func TestEmitEncodesAtOnce(t *testing.T) {
	sent, err := run(t, func(ctx context.Context, o *order) error {
		err := handlers.Emit(ctx, "a", o)
		o.ID = "changed"
		return err
	}, delivered(`{"id":"a"}`))
	require.NoError(t, err)
	require.Equal(t, []string{`a {"id":"a"}`}, texts(sent))
}

func TestEmitThroughMessageContext(t *testing.T) {
	sent, err := run(t, func(msg *message.Message) error {
		return handlers.Emit(msg.Context(), "a", "x")
	}, delivered(""))
	require.NoError(t, err)
	require.Equal(t, []string{"a x"}, texts(sent))
}

func TestEmitIsDiscardedOnFailure(t *testing.T) {
	runs := 0
	handler := adapt(t, func(ctx context.Context, o order) error {
		runs++
		require.NoError(t, handlers.Emit(ctx, "a", fmt.Sprint("run ", runs)))
		if runs == 1 {
			return errors.New("boom")
		}
		return nil
	}, handlers.Options{})
	handle, sent := inside(t, handler.Single)
	msg := delivered(`{}`)
	_, err := handle(msg)
	require.EqualError(t, err, "boom")
	require.Empty(t, sent.sent)
	_, err = handle(msg)
	require.NoError(t, err)
	require.Equal(t, []string{"a run 2"}, texts(sent.sent), "of the first run nothing remains")
}

func TestEmitElsewhere(t *testing.T) {
	err := handlers.Emit(t.Context(), "a", "x")
	require.ErrorIs(t, err, handlers.ErrNoHandler)
	require.EqualError(t, err, `emit string to "a": not inside a handler: pass on the context that the handler was called with`)

	var kept context.Context
	for name, result := range map[string]error{"succeeded": nil, "failed": errors.New("x"), "skipped": handlers.Skip("x")} {
		_, _ = run(t, func(ctx context.Context, _ order) error { kept = ctx; return result }, delivered(`{}`))
		require.ErrorIs(t, handlers.Emit(kept, "a", "x"), handlers.ErrHandlerReturned, name)
	}
	_, _ = run(t, func(ctx context.Context, _ order) error { kept = ctx; panic("x") }, delivered(`{}`))
	require.ErrorIs(t, handlers.Emit(kept, "a", "x"), handlers.ErrHandlerReturned, "panicked")
}

func TestEmitRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		value   any
		option  handlers.EmitOption
		problem string
	}{
		"nil":         {nil, handlers.Key(""), "value is nil"},
		"nil pointer": {(*order)(nil), handlers.Key(""), "value is nil"},
		"unencodable": {make(chan int), handlers.Key(""), `write chan int as json: json: unsupported type: chan int`},
		"reserved":    {"x", handlers.Meta(dedup.MetaEventID, "x"), `metadata "hapax_event_id": names that start with hapax_ are reserved; use Key or EventID`},
		"empty id":    {"x", handlers.EventID(""), "the event ID is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			sent, err := run(t, func(ctx context.Context, _ order) error {
				return handlers.Emit(ctx, "a", test.value, test.option)
			}, delivered(`{}`))
			require.ErrorContains(t, err, test.problem)
			require.Equal(t, handlers.Buried, handlers.Classify(err))
			require.Empty(t, sent)
		})
	}
}

func TestEmitConcurrently(t *testing.T) {
	const n = 100
	sent, err := run(t, func(ctx context.Context, _ order) error {
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				if err := handlers.Emit(ctx, "a", "x", handlers.EventID(fmt.Sprint(i))); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		return nil
	}, delivered(`{}`))
	require.NoError(t, err)
	ids := map[string]bool{}
	for _, p := range sent {
		ids[p.Metadata.Get(dedup.MetaEventID)] = true
	}
	require.Len(t, ids, n)
}

func TestEmitInBatch(t *testing.T) {
	middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: dedup.Plain{Publisher: &recorder{}}})
	require.NoError(t, err)
	for name, test := range map[string]struct {
		options []handlers.EmitOption
		err     error
	}{
		"without ID": {nil, dedup.ErrBatchOutput},
		"with ID":    {[]handlers.EmitOption{handlers.EventID("mine")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			handler := adapt(t, func(ctx context.Context, orders []order) error {
				err := handlers.Emit(ctx, "a", "x", test.options...)
				require.ErrorIs(t, err, test.err, "refused where it is made")
				return err
			}, handlers.Options{})
			_, err := middleware.Batch(handler.Batch, dedup.Batching{Size: 1})(delivered(`{}`))
			require.ErrorIs(t, err, test.err)
			if test.err != nil {
				require.Equal(t, handlers.Buried, handlers.Classify(err))
			}
		})
	}
}

// The ID inside a CloudEvent is the ID it is sent under, and the same on every
// run; no output shares it with another, however many the handler returns.
func TestCloudEventIDs(t *testing.T) {
	for _, structured := range []bool{true, false} {
		t.Run(fmt.Sprint("structured ", structured), func(t *testing.T) {
			events := codec.CloudEvents{Source: "/fulfilment", Structured: structured}
			handler := adapt(t, func(ctx context.Context, _ order) ([]shipment, error) {
				plain := handlers.Emit(ctx, "plain", "x")
				second := handlers.Emit(ctx, "events", order{ID: "e"}, handlers.WithCodec(events))
				mine := handlers.Emit(ctx, "events", order{ID: "m"}, handlers.WithCodec(events), handlers.EventID("mine"))
				return []shipment{{"a"}, {"b"}}, errors.Join(plain, second, mine)
			}, handlers.Options{Codec: codec.JSON, OutputCodec: events})
			handle, sent := inside(t, handler.Single)
			for range 2 {
				_, err := handle(delivered(`{}`))
				require.NoError(t, err)
			}
			require.Len(t, sent.sent, 10)
			ids := map[string]bool{}
			for i, p := range sent.sent {
				id := p.Metadata.Get(dedup.MetaEventID)
				if i < 5 {
					ids[id] = true
				}
				require.Equal(t, sent.sent[i%5].Payload, p.Payload, "a second run sends the same bytes")
				require.Equal(t, sent.sent[i%5].Metadata.Get(dedup.MetaEventID), id)
				if structured {
					var envelope struct{ ID string }
					require.NoError(t, json.Unmarshal(p.Payload, &envelope))
					require.Equal(t, id, envelope.ID)
				} else {
					require.Equal(t, id, p.Metadata.Get("ce_id"))
				}
			}
			require.Len(t, ids, 5)
			require.Contains(t, ids, "mine")
			require.Contains(t, ids, dedup.NewID(scope, "event-1").Output(0), "returned outputs keep their place's ID")
		})
	}
}

// A middleware that puts an output of its own in front moves those whose IDs are in them
// already: still no two have one.
func TestOutputsOfMiddlewaresHaveIDsOfTheirOwn(t *testing.T) {
	handler := adapt(t, func(context.Context, order) ([]shipment, error) { return []shipment{{"a"}, {"b"}}, nil },
		handlers.Options{OutputCodec: codec.CloudEvents{Source: "/fulfilment"}})
	handle, sent := inside(t, func(msg *message.Message) ([]*message.Message, error) {
		outputs, err := handler.Single(msg)
		return append(message.Messages{message.NewMessage("", []byte("audit"))}, outputs...), err
	})
	for range 2 {
		_, err := handle(delivered(`{}`))
		require.NoError(t, err)
	}
	ids := map[string]bool{}
	for i, p := range sent.sent {
		ids[p.Metadata.Get(dedup.MetaEventID)] = true
		require.Equal(t, sent.sent[i%3].Metadata.Get(dedup.MetaEventID), p.Metadata.Get(dedup.MetaEventID), "the same on every run")
	}
	require.Len(t, ids, 3)
}

func TestCloudEventWithoutEvent(t *testing.T) {
	handler := adapt(t, transform, handlers.Options{Codec: codec.JSON, OutputCodec: codec.CloudEvents{Source: "/a"}})
	_, err := handler.Single(delivered(`{}`))
	require.ErrorContains(t, err, "derive the output's ID: no event in the context: run the handler inside the dedup middleware")
}
