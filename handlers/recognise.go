package handlers

import (
	"context"
	"fmt"
	"reflect"

	"github.com/ThreeDotsLabs/watermill/message"
)

const acceptedForms = `
  func(context.Context, T) error
  func(context.Context, T) (Out, error)
  func(context.Context, T) ([]Out, error)
  func(context.Context, []T) error                      (batch)
  func(*message.Message) ([]*message.Message, error)
  func(*message.Message) error
where T and Out are types of your own, or *message.Message`

var (
	contextType = reflect.TypeFor[context.Context]()
	errorType   = reflect.TypeFor[error]()
)

// recognise finds the form of a function. Go cannot instantiate a generic
// function for a type that is only known at run time, so a function that comes
// as any, and is none of the fixed types, is called through reflection.
func recognise(fn any) (Form, error) {
	var form Form
	switch fn := fn.(type) {
	case nil:
	case Form:
		form = fn
	case func(*message.Message) ([]*message.Message, error):
		form = watermill(fn)
	case message.HandlerFunc:
		form = watermill(fn)
	case func(*message.Message) error:
		form = watermillConsume(fn)
	case message.NoPublishHandlerFunc:
		form = watermillConsume(fn)
	case func(context.Context, *message.Message) error:
		form = Consume(fn)
	case func(context.Context, *message.Message) ([]*message.Message, error):
		form = Expand(fn)
	default:
		return reflected(reflect.ValueOf(fn))
	}
	if form.input == nil {
		return Form{}, refuse(fn, "it is nil")
	}
	return form, nil
}

func refuse(fn any, problem string) error {
	return fmt.Errorf("found %T: %s; accepted forms are:%s", fn, problem, acceptedForms)
}

func reflected(fn reflect.Value) (Form, error) {
	t := fn.Type()
	if problem := mismatch(fn); problem != "" {
		return Form{}, refuse(fn.Interface(), problem)
	}
	form := Form{input: t.In(1)}
	many := false
	if t.NumOut() == 2 {
		form.output = t.Out(0)
		if many = isList(form.output); many {
			form.output = form.output.Elem()
		}
	}
	if isList(form.input) {
		if form.output != nil {
			return Form{}, refuse(fn.Interface(), "a batch function returns only an error; send outputs with handlers.Emit, each with its handlers.EventID")
		}
		list := form.input
		form.input = list.Elem()
		form.batch = func(s *scope, msgs []*message.Message) error {
			in := reflect.MakeSlice(list, len(msgs), len(msgs))
			for i, msg := range msgs {
				value, err := s.binding.decodeValue(msg)
				if err != nil {
					return fmt.Errorf("message %d of %d: %w", i+1, len(msgs), err)
				}
				in.Index(i).Set(value)
			}
			return asError(fn.Call([]reflect.Value{reflect.ValueOf(s), in})[0])
		}
		return form, nil
	}
	form.single = func(s *scope, msg *message.Message) error {
		in, err := s.binding.decodeValue(msg)
		if err != nil {
			return err
		}
		results := fn.Call([]reflect.Value{reflect.ValueOf(s), in})
		if err := asError(results[len(results)-1]); err != nil {
			return err
		}
		switch {
		case many:
			for i := range results[0].Len() {
				if err := s.add(results[0].Index(i).Interface()); err != nil {
					return err
				}
			}
		case len(results) == 2:
			return s.add(results[0].Interface())
		}
		return nil
	}
	return form, nil
}

// mismatch says what is wrong with a function's signature; empty when nothing is.
func mismatch(fn reflect.Value) string {
	t := fn.Type()
	switch {
	case t.Kind() != reflect.Func:
		return "it is not a function"
	case fn.IsNil():
		return "it is nil"
	case t.IsVariadic():
		return "it is variadic"
	case t.NumIn() != 2:
		return fmt.Sprintf("it has %d parameters, expected context.Context and T", t.NumIn())
	case t.In(0) != contextType:
		return fmt.Sprintf("its first parameter is %s, expected context.Context", t.In(0))
	case t.NumOut() == 0:
		return "it returns nothing, expected an error"
	case t.NumOut() > 2:
		return fmt.Sprintf("it returns %d values, expected an error, or one output and an error", t.NumOut())
	case t.Out(t.NumOut()-1) != errorType:
		return fmt.Sprintf("its last result is %s, expected error", t.Out(t.NumOut()-1))
	case t.NumOut() == 2 && t.Out(0) == errorType:
		return "its first result is an error, expected an output"
	}
	return ""
}

// isList reports whether a type stands for many values. A []byte is one.
func isList(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8
}

func asError(v reflect.Value) error {
	err, _ := v.Interface().(error)
	return err
}
