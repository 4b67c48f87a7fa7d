package handlers

import (
	"context"
	"fmt"
	"reflect"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Form is a function whose types are known to the compiler, ready for Adapt.
type Form struct {
	input, output reflect.Type
	// One of the two is set.
	single func(*scope, *message.Message) error
	batch  func(*scope, []*message.Message) error
}

// Consume takes a function without returned outputs.
func Consume[T any](fn func(context.Context, T) error) Form {
	if fn == nil {
		return Form{}
	}
	return Form{input: reflect.TypeFor[T](), single: func(s *scope, msg *message.Message) error {
		in, err := decode[T](s.binding, msg)
		if err != nil {
			return err
		}
		return fn(s, in)
	}}
}

// Transform takes a function that returns one output; a nil one is none.
func Transform[T, Out any](fn func(context.Context, T) (Out, error)) Form {
	if fn == nil {
		return Form{}
	}
	return Form{input: reflect.TypeFor[T](), output: reflect.TypeFor[Out](), single: func(s *scope, msg *message.Message) error {
		in, err := decode[T](s.binding, msg)
		if err != nil {
			return err
		}
		out, err := fn(s, in)
		if err != nil {
			return err
		}
		return s.add(out)
	}}
}

// Expand takes a function that returns any number of outputs.
func Expand[T, Out any](fn func(context.Context, T) ([]Out, error)) Form {
	if fn == nil {
		return Form{}
	}
	return Form{input: reflect.TypeFor[T](), output: reflect.TypeFor[Out](), single: func(s *scope, msg *message.Message) error {
		in, err := decode[T](s.binding, msg)
		if err != nil {
			return err
		}
		outs, err := fn(s, in)
		if err != nil {
			return err
		}
		for _, out := range outs {
			if err := s.add(out); err != nil {
				return err
			}
		}
		return nil
	}}
}

// Batch takes a function over many events at once. All of them succeed or none.
// Its outputs go through Emit, each with an EventID of its own: a batch is
// composed anew on every redelivery, so that none can be derived.
func Batch[T any](fn func(context.Context, []T) error) Form {
	if fn == nil {
		return Form{}
	}
	return Form{input: reflect.TypeFor[T](), batch: func(s *scope, msgs []*message.Message) error {
		in := make([]T, len(msgs))
		for i, msg := range msgs {
			var err error
			if in[i], err = decode[T](s.binding, msg); err != nil {
				return fmt.Errorf("message %d of %d: %w", i+1, len(msgs), err)
			}
		}
		return fn(s, in)
	}}
}

// watermill takes a Watermill handler; its outputs are messages already.
func watermill(fn message.HandlerFunc) Form {
	if fn == nil {
		return Form{}
	}
	return Form{input: messageType, output: messageType, single: func(s *scope, msg *message.Message) error {
		outs, err := fn(msg)
		if err != nil {
			return err
		}
		for _, out := range outs {
			if err := s.add(out); err != nil {
				return err
			}
		}
		return nil
	}}
}

func watermillConsume(fn message.NoPublishHandlerFunc) Form {
	if fn == nil {
		return Form{}
	}
	return Form{input: messageType, single: func(_ *scope, msg *message.Message) error { return fn(msg) }}
}
