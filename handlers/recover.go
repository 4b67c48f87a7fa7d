package handlers

import (
	"fmt"
	"runtime/debug"

	"github.com/ThreeDotsLabs/watermill/message"
)

// PanicError is a panic of a handler, turned into an error. It does not steer: a
// handler that panics is run again, like one that fails.
type PanicError struct {
	// Value is what panic was called with.
	Value any
	stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("handler panicked: %v", e.Value) }

// Unwrap returns Value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Stack returns the stack of the goroutine that panicked.
func (e *PanicError) Stack() []byte { return e.stack }

// Recover is a Watermill middleware that turns a handler's panic into a
// PanicError. A panic on a goroutine that the handler started cannot be caught
// and ends the process, as ever in Go. The message of a handler that ends its own
// goroutine (runtime.Goexit) goes back to the broker: none of its callers returns, so
// nobody else would give it back.
func Recover(handle message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) (outputs []*message.Message, err error) {
		exited := true
		defer func() {
			if exited && err == nil {
				msg.Nack()
			}
		}()
		defer recoverTo(&err)
		outputs, err = handle(msg)
		exited = false
		return outputs, err
	}
}

func recoverTo(err *error) {
	if value := recover(); value != nil {
		*err = &PanicError{Value: value, stack: debug.Stack()}
	}
}
