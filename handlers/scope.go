package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/handlers/codec"
)

// scope is the context of one run of a handler, and collects its outputs. It is
// a context itself, because that saves an allocation a message.
type scope struct {
	context.Context
	binding *binding
	input   *message.Message // of a batch: the first
	isBatch bool

	returned []*message.Message // by the handler's goroutine alone

	mu      sync.Mutex
	closed  bool
	emitted []*message.Message
}

type scopeKey struct{}

// Value implements context.Context.
func (s *scope) Value(key any) any {
	if key == (scopeKey{}) {
		return s
	}
	return s.Context.Value(key)
}

func scopeFrom(ctx context.Context) *scope {
	s, _ := ctx.Value(scopeKey{}).(*scope)
	return s
}

// close ends collecting: what comes later is refused, because it would be lost.
func (s *scope) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
}

// finish turns the result of a run into what the middlewares around it expect:
// outputs in order, returned ones first, or an error and none.
func (s *scope) finish(err error) ([]*message.Message, error) {
	s.close()
	switch Classify(err) {
	case Processed:
		return append(s.returned, s.emitted...), nil
	case Skipped:
		reason := err.Error()
		var skip *SkipError
		if errors.As(err, &skip) {
			reason = skip.Reason
		}
		s.skip(reason)
		return nil, nil
	default:
		return nil, err
	}
}

func (s *scope) skip(reason string) {
	eventID := ""
	if event := dedup.EventFrom(s); event != nil && !s.isBatch {
		eventID = event.EventID
	}
	s.binding.options.Logger.LogAttrs(s, slog.LevelInfo, "event skipped",
		slog.String("reason", reason), slog.String("event_id", eventID), slog.String("uuid", s.input.UUID))
	if s.binding.options.OnSkip != nil {
		s.binding.options.OnSkip(s.input, reason)
	}
}

// add appends a returned output. nil is none.
func (s *scope) add(value any) error {
	if isNil(value) {
		return nil
	}
	number := len(s.returned)
	msg, err := s.encode(value, nil, number, "")
	if err != nil {
		return Permanent(fmt.Errorf("encode output %d: %w", number, err))
	}
	s.returned = append(s.returned, msg)
	return nil
}

// encode makes a message of a value. When the codec writes the event ID into the
// message, or the handler has set one, the commit is told to use exactly this ID.
func (s *scope) encode(value any, chosen codec.Codec, number int, id string) (*message.Message, error) {
	msg, ready := value.(*message.Message)
	switch {
	case ready && (number >= emittedNumbers || msg == s.input || slices.Contains(s.returned, msg)):
		// IDs and topics are written into outputs. That must not happen to the
		// delivery, which may come to be retried or dead-lettered, nor twice to
		// one message that is sent twice.
		msg = msg.Copy()
	case !ready:
		if chosen == nil {
			chosen = s.binding.options.OutputCodec
		}
		if chosen == nil {
			chosen = codec.Default(value)
		}
		payload, metadata, err := chosen.Marshal(value, codec.Output{ID: func() (string, error) {
			if id != "" {
				return id, nil
			}
			var err error
			id, err = s.outputID(number)
			return id, err
		}})
		if err != nil {
			return nil, fmt.Errorf("write %T as %s: %w", value, chosen.Name(), err)
		}
		msg = message.NewMessage("", payload)
		maps.Copy(msg.Metadata, metadata) // a codec may give all its payloads one map
	}
	if msg.Metadata == nil {
		msg.Metadata = message.Metadata{}
	}
	if id != "" {
		msg.Metadata.Set(dedup.MetaOutputID, id)
	}
	return msg, nil
}

// outputID derives the ID of an output before its place among all outputs is
// known. Numbers from emitted on are those of Emit, whose outputs follow however
// many the handler will return; the commit numbers from zero, so that no ID can
// mean two outputs.
func (s *scope) outputID(number int) (string, error) {
	event := dedup.EventFrom(s)
	switch {
	case s.isBatch:
		return "", dedup.ErrBatchOutput
	case event == nil || event.EventID == "":
		return "", fmt.Errorf("derive the output's ID: %w", errNoEvent)
	}
	return event.ID.Output(number), nil
}

const emittedNumbers = 1 << 32

func isNil(value any) bool {
	if value == nil {
		return true
	}
	switch v := reflect.ValueOf(value); v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Func, reflect.Chan:
		return v.IsNil()
	}
	return false
}
