package dedup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/go-openapi/jsonpointer"
)

// Config configures a Middleware.
type Config struct {
	// Scope is the service and handler that process. Required: renaming either
	// makes every event new to the renamed handler.
	Scope Scope
	// Strategy decides and commits. Required.
	Strategy Strategy
	// Identity finds the event ID. The zero value looks at metadata and UUID.
	Identity Identity
	// OnConflict says what happens to an event whose ID was used with another
	// payload. Default Quarantine.
	OnConflict ConflictPolicy
	// InFlightWait bounds how long a copy waits for the outcome of another one
	// that is being processed. Default 5s; negative: do not wait.
	InFlightWait time.Duration
	// Observer is told the outcome of every delivery. Default: nobody.
	Observer Observer
}

// ConflictPolicy says what a second payload under the same ID means.
type ConflictPolicy string

const (
	// Quarantine sends a conflicting event to the dead-letter topic (I6).
	Quarantine ConflictPolicy = "quarantine"
	// Ignore treats it as a duplicate, for producers that encode anew on retry.
	Ignore ConflictPolicy = "ignore"
)

func (c *Config) complete() error {
	if c.OnConflict == "" {
		c.OnConflict = Quarantine
	}
	if c.InFlightWait == 0 {
		c.InFlightWait = 5 * time.Second
	}
	if _, err := jsonpointer.New(c.Identity.Pointer); err != nil {
		return fmt.Errorf("configure dedup: parse pointer %q: %w", c.Identity.Pointer, err)
	}
	switch {
	case c.Scope.Service == "" || c.Scope.Handler == "":
		return fmt.Errorf("configure dedup: scope is %+v, expected a service and a handler", c.Scope)
	case c.Strategy == nil:
		return errors.New("configure dedup: no strategy")
	case c.OnConflict != Quarantine && c.OnConflict != Ignore:
		return fmt.Errorf("configure dedup: conflict policy is %q, expected %q or %q", c.OnConflict, Quarantine, Ignore)
	}
	return nil
}

// Outcome is what became of one delivery.
type Outcome string

// The outcomes of a delivery.
const (
	Processed        Outcome = "processed"
	AlreadyProcessed Outcome = "duplicate"
	LostRace         Outcome = "lost race"
	StillInFlight    Outcome = "in flight"
	Conflicted       Outcome = "conflict"
	NoID             Outcome = "no id"
	Failed           Outcome = "failed"
	CommitFailed     Outcome = "commit failed"
)

// Observer is told the outcome of every delivery, on the goroutine that
// processed it. err is nil for the outcomes that are acknowledged.
type Observer interface {
	Observe(event *Event, outcome Outcome, err error)
}

// observe reports an outcome and hands err back, so that a step ends in one line.
func (m *Middleware) observe(event *Event, outcome Outcome, err error) error {
	if m.config.Observer != nil {
		m.config.Observer.Observe(event, outcome, err)
	}
	return err
}

// identify finds out which event a message is, and makes its delivery. The ID comes
// first, so that what the claim will look at is fetched while the rest is done.
func (m *Middleware) identify(msg *message.Message) (*delivery, error) {
	eventID, source, err := m.config.Identity.Find(msg)
	id := ID{}
	if err == nil {
		id = NewID(m.config.Scope, eventID)
		if m.expecter != nil {
			m.expecter.Expect(id)
		}
	}
	d := &delivery{}
	event := &d.event
	event.Message = msg
	event.Scope = m.config.Scope
	event.Topic = message.SubscribeTopicFromCtx(msg.Context())
	if err != nil {
		return d, fmt.Errorf("identify event: %w", err)
	}
	event.ID, event.EventID, event.Source = id, eventID, source
	// Two payloads of one content have one ID, and may differ in their bytes.
	if m.config.OnConflict == Quarantine && source != SourceContent {
		event.Digest = NewDigest(msg.Payload)
	}
	return d, nil
}

// DeadLetter publishes letter on behalf of a delivery that will not be processed,
// through the strategy, so that a transactional one does it in the same
// transaction as the acknowledgement. It leaves no mark.
func (m *Middleware) DeadLetter(ctx context.Context, msg *message.Message, letter Output) error {
	d, err := m.identify(msg)
	// An event without an ID is dead-lettered too: that is often the reason.
	if err != nil && !errors.Is(err, ErrNoID) {
		return err
	}
	return m.config.Strategy.DeadLetter(ctx, &d.event, letter)
}

type eventKey struct{}

type eventContext struct {
	context.Context
	event *Event
}

// Value implements context.Context.
func (c *eventContext) Value(key any) any {
	if key == (eventKey{}) {
		return c.event
	}
	return c.Context.Value(key)
}

func withEvent(ctx context.Context, event *Event) context.Context {
	return &eventContext{Context: ctx, event: event}
}

// delivery is an event with what its way through the middleware needs, in one
// allocation. It is also the context of the event's handler.
type delivery struct {
	context.Context // the claim's
	event           Event
	one             [1]*Event // the event, as Strategy.Claim takes it
	claim           ledgerClaim
	outputs         [1]Output // most handlers have one
}

// handling returns the context of the event's handler.
func (d *delivery) handling(ctx context.Context) context.Context {
	d.Context = ctx
	return d
}

// Value implements context.Context.
func (d *delivery) Value(key any) any {
	if key == (eventKey{}) {
		return &d.event
	}
	return d.Context.Value(key)
}

// EventFrom returns the event that the calling handler processes, or nil outside
// of a handler.
func EventFrom(ctx context.Context) *Event {
	event, _ := ctx.Value(eventKey{}).(*Event)
	return event
}
