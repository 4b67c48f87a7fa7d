package handlers_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/handlers"
	"github.com/hapax-go/hapax/handlers/codec"
)

func transform(_ context.Context, o order) (shipment, error) { return shipment{o.ID}, nil }

// Every form, as it is and through its constructor, is the same handler.
func TestForms(t *testing.T) {
	var seen []order
	consume := func(_ context.Context, o order) error { seen = append(seen, o); return nil }
	pointer := func(_ context.Context, o *order) (*shipment, error) { return &shipment{o.ID}, nil }
	expand := func(_ context.Context, o order) ([]shipment, error) { return []shipment{{o.ID}, {"b"}}, nil }
	batch := func(_ context.Context, os []order) error { seen = append(seen, os...); return nil }
	raw := func(msg *message.Message) ([]*message.Message, error) {
		return message.Messages{message.NewMessage("", msg.Payload)}, nil
	}
	rawConsume := func(msg *message.Message) error { return json.Unmarshal(msg.Payload, &seen) }
	rawContext := func(_ context.Context, msg *message.Message) error { return rawConsume(msg) }
	rawExpand := func(_ context.Context, msg *message.Message) ([]*message.Message, error) { return raw(msg) }
	one := []string{`out {"order":"a"}`}
	const payload = `{"id":"a"}`
	for name, test := range map[string]struct {
		fn            any
		input, output any
		sent          []string
		seen          bool
	}{
		"consume":               {fn: consume, input: order{}, seen: true},
		"Consume":               {fn: handlers.Consume(consume), input: order{}, seen: true},
		"transform":             {fn: transform, input: order{}, output: shipment{}, sent: one},
		"Transform":             {fn: handlers.Transform(transform), input: order{}, output: shipment{}, sent: one},
		"pointers":              {fn: pointer, input: &order{}, output: &shipment{}, sent: one},
		"Transform pointers":    {fn: handlers.Transform(pointer), input: &order{}, output: &shipment{}, sent: one},
		"expand":                {fn: expand, input: order{}, output: shipment{}, sent: append(one, `out {"order":"b"}`)},
		"Expand":                {fn: handlers.Expand(expand), input: order{}, output: shipment{}, sent: append(one, `out {"order":"b"}`)},
		"batch":                 {fn: batch, input: order{}, seen: true},
		"Batch":                 {fn: handlers.Batch(batch), input: order{}, seen: true},
		"watermill":             {fn: raw, input: &message.Message{}, output: &message.Message{}, sent: []string{"out " + payload}},
		"watermill HandlerFunc": {fn: message.HandlerFunc(raw), input: &message.Message{}, output: &message.Message{}, sent: []string{"out " + payload}},
		"raw expand":            {fn: rawExpand, input: &message.Message{}, output: &message.Message{}, sent: []string{"out " + payload}},
	} {
		t.Run(name, func(t *testing.T) {
			seen = nil
			handler := adapt(t, test.fn, handlers.Options{})
			require.Equal(t, reflect.TypeOf(test.input), handler.Input)
			require.Equal(t, reflect.TypeOf(test.output), handler.Output)
			require.Equal(t, strings.EqualFold(name, "batch"), handler.Batch != nil)
			sent, err := run(t, test.fn, delivered(payload))
			require.NoError(t, err)
			require.Equal(t, test.sent, texts(sent))
			if test.seen {
				require.Equal(t, []order{{ID: "a"}}, seen)
			}
		})
	}
	for name, fn := range map[string]any{
		"watermill consume":     rawConsume,
		"NoPublishHandlerFunc":  message.NoPublishHandlerFunc(rawConsume),
		"raw consume":           rawContext,
		"raw consume reflected": handlers.Consume(rawContext),
	} {
		t.Run(name, func(t *testing.T) {
			seen = nil
			_, err := run(t, fn, delivered(`[{"id":"a"}]`))
			require.NoError(t, err)
			require.Equal(t, []order{{ID: "a"}}, seen)
		})
	}
}

func TestCodecByType(t *testing.T) {
	upper := func(_ context.Context, in string) (string, error) { return strings.ToUpper(in), nil }
	sent, err := run(t, upper, delivered("not json"))
	require.NoError(t, err)
	require.Equal(t, []string{"out NOT JSON"}, texts(sent))

	bytes := func(_ context.Context, in []byte) ([]byte, error) { return append(in, '!'), nil }
	sent, err = run(t, bytes, delivered("x"))
	require.NoError(t, err)
	require.Equal(t, []string{"out x!"}, texts(sent), "a []byte is one value, not many")

	message := func(_ context.Context, in json.RawMessage) error { require.Equal(t, `{"a":1}`, string(in)); return nil }
	_, err = run(t, message, delivered(`{"a":1}`))
	require.NoError(t, err)

	payload, err := proto.Marshal(wrapperspb.String("p"))
	require.NoError(t, err)
	protobuf := func(_ context.Context, in *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
		return wrapperspb.String(in.Value + "!"), nil
	}
	for _, fn := range []any{protobuf, handlers.Transform(protobuf)} {
		sent, err = run(t, fn, delivered(string(payload)))
		require.NoError(t, err)
		require.Equal(t, []string{"out \n\x02p!"}, texts(sent))
	}
	array := func(_ context.Context, in []order) error { require.Len(t, in, 2); return nil }
	_, err = run(t, handlers.Consume(array), delivered(`[{},{}]`))
	require.NoError(t, err, "a JSON array as one value")
}

func TestNilIsNoOutput(t *testing.T) {
	for name, fn := range map[string]any{
		"nil pointer":           func(context.Context, order) (*shipment, error) { return nil, nil },
		"nil pointer, generic":  handlers.Transform(func(context.Context, order) (*shipment, error) { return nil, nil }),
		"nil interface":         func(context.Context, order) (any, error) { return nil, nil },
		"nil map":               func(context.Context, order) (map[string]int, error) { return nil, nil },
		"nil bytes":             func(context.Context, order) ([]byte, error) { return nil, nil },
		"empty slice":           func(context.Context, order) ([]shipment, error) { return []shipment{}, nil },
		"nil elements":          func(context.Context, order) ([]*shipment, error) { return []*shipment{nil}, nil },
		"nil messages":          func(*message.Message) ([]*message.Message, error) { return message.Messages{nil}, nil },
		"nil elements, generic": handlers.Expand(func(context.Context, order) ([]*shipment, error) { return []*shipment{nil}, nil }),
	} {
		t.Run(name, func(t *testing.T) {
			sent, err := run(t, fn, delivered(`{}`))
			require.NoError(t, err)
			require.Empty(t, sent)
		})
	}
	sent, err := run(t, func(context.Context, order) (shipment, error) { return shipment{}, nil }, delivered(`{}`))
	require.NoError(t, err)
	require.Equal(t, []string{`out {"order":""}`}, texts(sent), "a zero struct is a value")
}

func TestRefusedForms(t *testing.T) {
	var missing func(context.Context, order) error
	for name, test := range map[string]struct {
		fn      any
		problem string
	}{
		"nil":           {nil, "found <nil>: it is nil"},
		"nil func":      {missing, "found func(context.Context, handlers_test.order) error: it is nil"},
		"nil watermill": {message.HandlerFunc(nil), "found message.HandlerFunc: it is nil"},
		"nil generic":   {handlers.Consume(missing), "it is nil"},
		"not a func":    {42, "found int: it is not a function"},
		"no context":    {func(order) error { return nil }, "it has 1 parameters, expected context.Context and T"},
		"wrong first":   {func(order, order) error { return nil }, "its first parameter is handlers_test.order, expected context.Context"},
		"no error":      {func(context.Context, order) {}, "it returns nothing, expected an error"},
		"output only":   {func(context.Context, order) shipment { return shipment{} }, "its last result is handlers_test.shipment, expected error"},
		"two errors":    {func(context.Context, order) (error, error) { return nil, nil }, "its first result is an error"},
		"three results": {func(context.Context, order) (int, int, error) { return 0, 0, nil }, "it returns 3 values"},
		"variadic":      {func(context.Context, ...order) error { return nil }, "it is variadic"},
		"batch outputs": {func(context.Context, []order) ([]shipment, error) { return nil, nil }, "a batch function returns only an error"},
		"input type":    {func(context.Context, error) error { return nil }, "input: json cannot read into the interface error"},
		"output type":   {func(context.Context, order) (func(), error) { return nil, nil }, "output: json has no form for func()"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := handlers.Adapt(test.fn, handlers.Options{})
			require.ErrorContains(t, err, "adapt handler: ")
			require.ErrorContains(t, err, test.problem)
			if !strings.Contains(name, "type") {
				require.ErrorContains(t, err, "func(context.Context, T) (Out, error)")
			}
		})
	}
	_, err := handlers.Adapt(transform, handlers.Options{Codec: codec.Proto})
	require.EqualError(t, err, "adapt handler: input: handlers_test.order is not a protobuf message: take a pointer to a generated message, or another codec")
	_, err = handlers.Adapt(transform, handlers.Options{OutputCodec: codec.Raw})
	require.ErrorContains(t, err, "output: raw hands over []byte or string, not handlers_test.shipment")
}

func TestUndecodable(t *testing.T) {
	payload := "{\"id\":\xff\n" + strings.Repeat("x", 100)
	for name, fn := range map[string]any{"reflected": transform, "generic": handlers.Transform(transform)} {
		t.Run(name, func(t *testing.T) {
			_, err := run(t, fn, delivered(payload))
			var failed *handlers.DecodeError
			require.ErrorAs(t, err, &failed)
			require.Equal(t, handlers.Buried, handlers.Classify(err))
			require.EqualError(t, err, `decode json as handlers_test.order at orders/3@1234: `+
				`invalid character 'ÿ' looking for beginning of value; payload starts with "{\"id\":\xff\n`+strings.Repeat("x", 56)+`"`)
		})
	}
}

func TestUnencodableOutput(t *testing.T) {
	_, err := run(t, func(context.Context, order) (any, error) { return make(chan int), nil }, delivered(`{}`))
	require.Equal(t, handlers.Buried, handlers.Classify(err), "no retry can mend it")
	require.ErrorContains(t, err, "encode output 0: write chan int as json: json: unsupported type: chan int")
}

// A handler may return its input, or one message twice: each output has its own
// ID, and the delivery stays as it was.
func TestReturnedInputIsCopied(t *testing.T) {
	in := delivered(`{}`)
	in.Metadata.Set(dedup.MetaTopic, "stays")
	sent, err := run(t, func(msg *message.Message) ([]*message.Message, error) {
		other := message.NewMessage("", nil)
		return message.Messages{msg, msg, other, other}, nil
	}, in)
	require.NoError(t, err)
	require.Equal(t, message.Metadata{dedup.MetaTopic: "stays"}, in.Metadata)
	require.Len(t, sent, 4)
	ids := map[string]bool{}
	for _, p := range sent {
		ids[p.Metadata.Get(dedup.MetaEventID)] = true
	}
	require.Len(t, ids, 4)
}

func TestContextIsRestored(t *testing.T) {
	msg := delivered(`{}`)
	before := msg.Context()
	handler := adapt(t, func(msg *message.Message) error {
		require.NotEqual(t, before, msg.Context(), "Emit works with the message's context")
		return nil
	}, handlers.Options{})
	_, err := handler.Single(msg)
	require.NoError(t, err)
	require.Equal(t, before, msg.Context())

	handler = adapt(t, func(*message.Message) error { panic("x") }, handlers.Options{})
	_, err = handlers.Recover(handler.Single)(msg)
	require.Error(t, err)
	require.Equal(t, before, msg.Context())
}

func TestBatch(t *testing.T) {
	boom := errors.New("boom")
	for name, wrap := range map[string]func(func(context.Context, []order) error) any{
		"reflected": func(fn func(context.Context, []order) error) any { return fn },
		"generic":   func(fn func(context.Context, []order) error) any { return handlers.Batch(fn) },
	} {
		t.Run(name, func(t *testing.T) {
			var got []order
			batch := adapt(t, wrap(func(_ context.Context, orders []order) error { got = orders; return nil }), handlers.Options{}).Batch
			outputs, err := batch(message.Messages{delivered(`{"id":"a"}`), delivered(`{"id":"b"}`)})
			require.NoError(t, err)
			require.Empty(t, outputs)
			require.Equal(t, []order{{ID: "a"}, {ID: "b"}}, got)

			_, err = batch(message.Messages{delivered(`{}`), delivered(`x`)})
			require.ErrorContains(t, err, "message 2 of 2: decode json")
			require.Equal(t, handlers.Buried, handlers.Classify(err))

			outputs, err = batch(nil)
			require.NoError(t, err)
			require.Empty(t, outputs)

			batch = adapt(t, wrap(func(context.Context, []order) error { panic(boom) }), handlers.Options{}).Batch
			_, err = batch(message.Messages{delivered(`{}`)})
			require.ErrorIs(t, err, boom)
			var panicked *handlers.PanicError
			require.ErrorAs(t, err, &panicked)
		})
	}
}

// An error that a function returns, and an output that cannot be encoded, fail the event
// whatever the function's form.
func TestErrorsOfEveryForm(t *testing.T) {
	boom := errors.New("boom")
	bad := func() {} // no codec writes it
	for name, fn := range map[string]any{
		"Consume":   handlers.Consume(func(context.Context, order) error { return boom }),
		"Transform": handlers.Transform(func(context.Context, order) (shipment, error) { return shipment{}, boom }),
		"Expand":    handlers.Expand(func(context.Context, order) ([]shipment, error) { return []shipment{{}}, boom }),
		"Batch":     handlers.Batch(func(context.Context, []order) error { return boom }),
		"watermill": func(*message.Message) ([]*message.Message, error) {
			return message.Messages{message.NewMessage("", nil)}, boom
		},
		"watermill consume":   func(*message.Message) error { return boom },
		"transform reflected": func(context.Context, order) (shipment, error) { return shipment{}, boom },
		"Transform, output":   handlers.Transform(func(context.Context, order) (any, error) { return bad, nil }),
		"Expand, output":      handlers.Expand(func(context.Context, order) ([]any, error) { return []any{order{}, bad}, nil }),
	} {
		t.Run(name, func(t *testing.T) {
			sent, err := run(t, fn, delivered(`{}`))
			require.Empty(t, sent)
			if strings.HasSuffix(name, "output") {
				require.ErrorContains(t, err, "encode output ")
				require.Equal(t, handlers.Buried, handlers.Classify(err))
				return
			}
			require.ErrorIs(t, err, boom)
		})
		if !strings.HasPrefix(name, "watermill") {
			t.Run(name+", undecodable", func(t *testing.T) {
				sent, err := run(t, fn, delivered(`x`))
				require.Empty(t, sent)
				require.ErrorContains(t, err, "decode json")
				require.Equal(t, handlers.Buried, handlers.Classify(err))
			})
		}
	}
}
