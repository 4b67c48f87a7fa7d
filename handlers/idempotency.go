package handlers

import (
	"context"
	"errors"
	"fmt"

	"github.com/hapax-go/hapax/dedup"
)

// IdempotencyKey returns a key for an effect that no transaction covers, such as
// a call to a payment provider: 32 hexadecimal digits, the same on every run of
// this handler for this event, on every worker, and different for other events,
// handlers and names. The name tells apart several effects of one handler.
//
// Errors: the context is not that of a handler, or is that of a batch, which has
// no single event; a batch of *message.Message can pass on each message's own
// context.
func IdempotencyKey(ctx context.Context, name string) (string, error) {
	event := dedup.EventFrom(ctx)
	switch s := scopeFrom(ctx); {
	case s != nil && s.isBatch:
		return "", fmt.Errorf("derive idempotency key %q: a batch has no single event: take []*message.Message and pass on the message's context", name)
	case event == nil || event.EventID == "":
		return "", fmt.Errorf("derive idempotency key %q: %w", name, errNoEvent)
	}
	id := dedup.NewID(event.Scope, event.EventID)
	return dedup.NewID(dedup.Scope{Service: id.String(), Handler: "idempotency key"}, name).String(), nil
}

var errNoEvent = errors.New("no event in the context: run the handler inside the dedup middleware, and pass on the context it was called with")
