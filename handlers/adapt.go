package handlers

import (
	"fmt"
	"log/slog"
	"reflect"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/handlers/codec"
)

// Handler is a function adapted to Watermill.
type Handler struct {
	// Single handles one message. Always set; a batch function takes it as a
	// batch of one.
	Single message.HandlerFunc
	// Batch handles many messages at once; nil unless the function takes a slice.
	Batch dedup.BatchFunc
	// Input is the type a message is decoded into; for a batch, that of one
	// element.
	Input reflect.Type
	// Output is the type of one returned output; nil when the function returns
	// none.
	Output reflect.Type
}

// Options say how messages become values, and who is told what.
type Options struct {
	// Codec reads messages, and writes outputs unless OutputCodec is set. Default:
	// by type (see codec.Default).
	Codec codec.Codec
	// OutputCodec writes outputs. Default: Codec.
	OutputCodec codec.Codec
	// Logger is told about skipped events. Default: slog.Default().
	Logger *slog.Logger
	// OnSkip is called for each message that a handler skips.
	OnSkip func(msg *message.Message, reason string)
}

// Adapt turns a function into a Handler. It accepts these forms, and what
// Consume, Transform, Expand and Batch make of them:
//
//	func(context.Context, T) error
//	func(context.Context, T) (Out, error)
//	func(context.Context, T) ([]Out, error)
//	func(context.Context, []T) error                              batch
//	func(*message.Message) ([]*message.Message, error)            Watermill
//	func(*message.Message) error                                  Watermill
//
// T and Out may be *message.Message, which is handed over as it is. A []byte (or
// a type made of it) is one value, not a batch; to take a JSON array as one
// value, say so with Consume[[]T].
//
// The form is recognised once, here. A function given as it is is then called
// through reflection, some 0.5 µs and three allocations a message; Consume and
// the others avoid that.
//
// An error says what was found and what is accepted, or why the codec cannot
// read or write a type.
func Adapt(fn any, options Options) (Handler, error) {
	form, err := recognise(fn)
	if err != nil {
		return Handler{}, fmt.Errorf("adapt handler: %w", err)
	}
	if options.OutputCodec == nil {
		options.OutputCodec = options.Codec
	}
	if options.Logger == nil {
		options.Logger = slog.Default()
	}
	b := &binding{options: options, input: form.input}
	if form.input != messageType {
		b.codec = choose(options.Codec, form.input)
		if err := b.codec.Check(form.input); err != nil {
			return Handler{}, fmt.Errorf("adapt handler: input: %w", err)
		}
	}
	if form.output != nil && form.output != messageType && form.output.Kind() != reflect.Interface {
		if err := choose(options.OutputCodec, form.output).Check(form.output); err != nil {
			return Handler{}, fmt.Errorf("adapt handler: output: %w", err)
		}
	}
	handler := Handler{Input: form.input, Output: form.output}
	if form.batch != nil {
		handler.Batch = b.batch(form.batch)
		handler.Single = func(msg *message.Message) ([]*message.Message, error) {
			return handler.Batch([]*message.Message{msg})
		}
	} else {
		handler.Single = b.single(form.single)
	}
	return handler, nil
}

var messageType = reflect.TypeFor[*message.Message]()

func choose(chosen codec.Codec, t reflect.Type) codec.Codec {
	if chosen != nil {
		return chosen
	}
	return codec.Default(reflect.Zero(t).Interface())
}

// binding is what stays the same for every message of a handler.
type binding struct {
	options Options
	input   reflect.Type
	codec   codec.Codec // of the input; nil when it is *message.Message
}

func (b *binding) single(run func(*scope, *message.Message) error) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		delivered := msg.Context()
		s := &scope{Context: delivered, binding: b, input: msg}
		// dedup commits with the message's context: the scope must not outlive
		// the handler there, however the handler ends.
		defer msg.SetContext(delivered)
		defer s.close()
		msg.SetContext(s)
		return s.finish(run(s, msg))
	}
}

// batch gives the function the context of the first message, which carries the
// claim and the transaction of the whole batch. The messages keep their own.
func (b *binding) batch(run func(*scope, []*message.Message) error) dedup.BatchFunc {
	return func(msgs []*message.Message) (outputs []*message.Message, err error) {
		if len(msgs) == 0 {
			return nil, nil
		}
		defer recoverTo(&err)
		s := &scope{Context: msgs[0].Context(), binding: b, input: msgs[0], isBatch: true}
		defer s.close()
		return s.finish(run(s, msgs))
	}
}
