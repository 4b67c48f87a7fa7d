package dedup

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Strategy fills in the steps of the processing order that differ between
// brokers: how an event is claimed, and what commits together. Implementations
// are safe for concurrent use.
type Strategy interface {
	// Claim decides the Verdict of every event and returns one Claim for those
	// it found Fresh (nil when there is none). An error means that nothing was
	// decided and nothing is held.
	Claim(ctx context.Context, events []*Event) (Claim, error)

	// DeadLetter makes letter durable on its topic on behalf of an event that
	// will not be processed. It leaves no mark, so a requeued letter is
	// processed like any other event. The caller acknowledges the delivery
	// after DeadLetter has returned nil, not before.
	DeadLetter(ctx context.Context, event *Event, letter Output) error
}

// Claim is the right to process the fresh events of one Strategy.Claim. Exactly
// one of Commit and Release ends it.
type Claim interface {
	// Context derives the handler's context: cancelled with ErrLeaseLost when
	// the claim is taken over, and carrying the transaction where the strategy
	// has one.
	Context(ctx context.Context) context.Context

	// Commit makes outputs, mark and (where the strategy has a transaction) the
	// handler's own writes durable, as atomically as the strategy can, and in
	// that order where it cannot: the mark never precedes the outputs (I1).
	//
	// ErrLeaseLost: somebody else took over; nothing was marked. ErrLostRace:
	// under an optimistic claim another copy committed first and these outputs
	// were discarded. Any other error: the outcome is unknown or nothing was
	// committed; the delivery must come again.
	Commit(ctx context.Context, outputs []Output) error

	// Release gives the claim back without a mark (I3). It is also called after
	// a failed Commit, where it must not undo a mark that did become durable.
	Release(ctx context.Context)
}

// Output is a message on its way to a topic.
type Output struct {
	Topic   string
	Message *message.Message
}

var (
	// ErrInFlight: another worker holds the lease. The delivery is never
	// acknowledged (I4); it goes back to the broker.
	ErrInFlight = errors.New("event is being processed by another worker")

	// ErrLeaseLost: the claim was taken over, so it cannot commit (I5).
	ErrLeaseLost = errors.New("lease was taken over by another worker")

	// ErrLostRace: another copy committed first under an optimistic claim.
	ErrLostRace = errors.New("another copy of the event committed first")

	// ErrNoID: no rule of the identity found an event ID.
	ErrNoID = errors.New("event has no ID")

	// ErrBadOutput: an output can never be published as it is: it has no topic,
	// or is larger than the broker takes. Running the handler again will not
	// mend it.
	ErrBadOutput = errors.New("output cannot be published")

	// ErrRefused: the store refused what the handler has written, at the end of its
	// transaction, as a deferred constraint does, or ended that because no statement came
	// for too long, twice. It tells of the event: it is retried
	// like the handler's own errors, and then dead-lettered like them.
	ErrRefused = errors.New("what the handler has written was refused")

	// ErrConflict: the same event ID came with another payload (I6).
	ErrConflict = errors.New("event ID was used before with another payload")
)

// StepError is a claim, a commit or a SQL transaction of the handler that did not
// come about. It tells of the store or the broker, not of the event.
type StepError struct {
	// Step is "claim", "commit", "begin transaction of" or "run SQL of".
	Step string
	// EventID is the readable ID.
	EventID string
	Err     error
}

func (e *StepError) Error() string { return fmt.Sprintf("%s event %q: %v", e.Step, e.EventID, e.Err) }

// Unwrap returns Err.
func (e *StepError) Unwrap() error { return e.Err }

// Infrastructure reports that retrying may help however often it did not yet: an
// event is never dead-lettered because a store or a broker was away. A bad output and
// what the store refuses are the exceptions.
func (e *StepError) Infrastructure() bool {
	return !errors.Is(e.Err, ErrBadOutput) && !errors.Is(e.Err, ErrRefused)
}
