package handlers

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/handlers/codec"
)

var (
	// ErrNoHandler: Emit was called with a context that is not a handler's.
	ErrNoHandler = errors.New("not inside a handler: pass on the context that the handler was called with")
	// ErrHandlerReturned: Emit was called after the handler had returned, when
	// its outputs were already on their way.
	ErrHandlerReturned = errors.New("the handler has returned already: wait for its goroutines before returning")
)

// Emit adds an output to those of the calling handler; topic "" is the handler's
// own output topic. The value is encoded before Emit returns, and sent, after
// the returned outputs, when the handler's event commits; a handler that fails
// or skips has emitted nothing. Of a *message.Message a copy is sent.
//
// Emit may be called concurrently, but outputs must come in the same order on
// every run of the handler, because their IDs are derived from it: give
// concurrent ones an EventID. Outputs of a batch handler need one as well.
//
// Errors are Permanent for values that cannot be encoded. ErrNoHandler and
// ErrHandlerReturned: the output would have been lost.
func Emit(ctx context.Context, topic string, value any, options ...EmitOption) error {
	if err := emit(ctx, topic, value, options); err != nil {
		return fmt.Errorf("emit %T to %q: %w", value, topic, err)
	}
	return nil
}

func emit(ctx context.Context, topic string, value any, options []EmitOption) error {
	s := scopeFrom(ctx)
	if s == nil {
		return ErrNoHandler
	}
	var e emission
	for _, option := range options {
		option(&e)
	}
	switch {
	case e.err != nil:
		return Permanent(e.err)
	case isNil(value):
		return Permanent(errors.New("value is nil"))
	case s.isBatch && e.id == "":
		return dedup.ErrBatchOutput
	}
	// Encoding happens under the lock: the number, which may be part of the
	// encoding, and the place in the list must not part.
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrHandlerReturned
	}
	msg, err := s.encode(value, e.codec, emittedNumbers+len(s.emitted), e.id)
	if err != nil {
		return Permanent(err)
	}
	for i := 0; i < len(e.meta); i += 2 {
		msg.Metadata.Set(e.meta[i], e.meta[i+1])
	}
	if topic != "" {
		msg.Metadata.Set(dedup.MetaTopic, topic)
	}
	if e.keyed {
		msg.Metadata.Set(dedup.MetaKey, e.key)
	}
	s.emitted = append(s.emitted, msg)
	return nil
}

// EmitOption adjusts one emitted output.
type EmitOption func(*emission)

type emission struct {
	key, id string
	keyed   bool     // the key is set, if only to nothing
	meta    []string // name, value, name, value …
	codec   codec.Codec
	err     error
}

// Key sets the ordering key: outputs of equal keys are processed in order, one
// at a time. Without it an output has the key of the handler's event; with "" it has none,
// and is ordered with nothing. Outputs of a batch have a key of their own or that of all
// its events.
func Key(key string) EmitOption { return func(e *emission) { e.key, e.keyed = key, true } }

// Meta sets a metadata value. Names that start with "hapax_" are refused.
func Meta(name, value string) EmitOption {
	return func(e *emission) {
		if strings.HasPrefix(name, "hapax_") {
			e.err = fmt.Errorf("metadata %q: names that start with hapax_ are reserved; use Key or EventID", name)
		}
		e.meta = append(e.meta, name, value)
	}
}

// EventID sets the output's event ID, instead of one derived from its place. It
// must be the same on every run of the handler.
func EventID(id string) EmitOption {
	return func(e *emission) {
		if id == "" {
			e.err = errors.New("the event ID is empty")
		}
		e.id = id
	}
}

// WithCodec writes this output with another codec than the handler's own.
func WithCodec(c codec.Codec) EmitOption { return func(e *emission) { e.codec = c } }
