package handlers

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"
	pkgerrors "github.com/pkg/errors"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// deadPrefix begins the metadata of a dead letter.
const deadPrefix = "hapax_dead_"

// Reasons for a dead letter.
const (
	// ReasonPermanent: the handler said that no retry can mend it.
	ReasonPermanent = "permanent"
	// ReasonExhausted: the handler failed on every attempt.
	ReasonExhausted = "retries exhausted"
	// ReasonUndecodable: the payload is not what the handler takes.
	ReasonUndecodable = "undecodable"
	// ReasonNoID: the event has no ID.
	ReasonNoID = "no event id"
	// ReasonConflict: the event's ID was used with another payload.
	ReasonConflict = "conflict"
	// ReasonBadOutput: an output can never be published as it is.
	ReasonBadOutput = "bad output"
)

const (
	maxDeadError = 2 << 10
	maxDeadStack = 4 << 10
)

// letter copies an event as it was delivered, and adds why it is dead.
func (d DeadLetter) letter(msg *message.Message, err error) *message.Message {
	letter := msg.Copy()
	// A letter that was put back and failed again tells about this failure only.
	for name := range letter.Metadata {
		if strings.HasPrefix(name, deadPrefix) {
			delete(letter.Metadata, name)
		}
	}
	set := func(name, value string) {
		if value != "" {
			letter.Metadata.Set(name, value)
		}
	}
	if id, _, err := d.Identity.Find(msg); err == nil {
		set(dedup.MetaEventID, id)
	}
	attempts := 1
	if gaveUp := (*GaveUpError)(nil); errors.As(err, &gaveUp) {
		attempts = gaveUp.Attempts
	}
	set(dedup.MetaDeadReason, reasonOf(err))
	set(dedup.MetaDeadError, printable(err.Error(), maxDeadError))
	set(dedup.MetaDeadStack, printable(stackOf(err), maxDeadStack))
	set(dedup.MetaDeadAttempts, strconv.Itoa(attempts))
	set(dedup.MetaDeadTopic, d.Topic)
	set(dedup.MetaDeadService, d.Service)
	set(dedup.MetaDeadHandler, d.Handler)
	set(dedup.MetaDeadAt, time.Now().UTC().Format(time.RFC3339Nano))
	if delivery := adapters.DeliveryFrom(msg.Context()); delivery != nil {
		set(dedup.MetaDeadPosition, delivery.Position)
	}
	return letter
}

func reasonOf(err error) string {
	var gaveUp *GaveUpError
	if errors.As(err, &gaveUp) {
		if Classify(gaveUp.Err) == Retried {
			return ReasonExhausted
		}
		err = gaveUp.Err
	}
	var undecodable *DecodeError
	switch {
	case errors.As(err, &undecodable):
		return ReasonUndecodable
	case errors.Is(err, dedup.ErrNoID):
		return ReasonNoID
	case errors.Is(err, dedup.ErrConflict):
		return ReasonConflict
	case errors.Is(err, dedup.ErrBadOutput), errors.Is(err, dedup.ErrBatchOutput):
		return ReasonBadOutput
	default:
		return ReasonPermanent
	}
}

// stackOf returns the stack that an error carries, like PanicError or the errors
// of github.com/pkg/errors do; else "".
func stackOf(err error) string {
	var own interface{ Stack() []byte }
	if errors.As(err, &own) {
		return string(own.Stack())
	}
	var traced interface{ StackTrace() pkgerrors.StackTrace }
	if errors.As(err, &traced) {
		return strings.TrimSpace(fmt.Sprintf("%+v", traced.StackTrace()))
	}
	return ""
}

// printable bounds a text, and replaces what a broker may refuse in metadata:
// SQS takes no control characters, and none take broken UTF-8 gladly.
func printable(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0xFFFE || r == 0xFFFF {
			return utf8.RuneError
		}
		return r
	}, text)
	if len(text) <= limit {
		return text
	}
	const mark = "…"
	end := limit - len(mark)
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + mark
}
