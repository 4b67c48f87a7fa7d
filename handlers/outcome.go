package handlers

import (
	"errors"
	"fmt"
	"time"

	"github.com/hapax-go/hapax/dedup"
)

// Outcome is what becomes of an event.
type Outcome uint8

const (
	// Processed: outputs and mark commit, then the delivery is acknowledged.
	Processed Outcome = iota
	// Skipped: as Processed, without outputs.
	Skipped
	// Retried: the handler runs again in this process.
	Retried
	// Returned: the delivery goes back to the broker unacknowledged.
	Returned
	// Buried: the event goes to the dead-letter topic, then the delivery is
	// acknowledged.
	Buried
)

// String returns the outcome in lower case, as used in logs and metrics.
func (o Outcome) String() string {
	switch o {
	case Processed:
		return "processed"
	case Skipped:
		return "skipped"
	case Retried:
		return "retried"
	case Returned:
		return "returned"
	case Buried:
		return "buried"
	default:
		return fmt.Sprintf("outcome %d", uint8(o))
	}
}

// Classify says what an error makes of its event. Wrapped errors count; where
// several that steer wrap each other, the outermost decides. An error that does
// not steer is Retried, cancelled contexts included: whether the delivery itself
// was cancelled is known by its own context only, and Retry looks there.
//
// A Skip that is joined with an error which is none decides nothing, whatever their
// order: something has failed, and a mark would lose the event.
func Classify(err error) Outcome {
	var steering interface{ Outcome() Outcome }
	switch {
	case err == nil:
		return Processed
	case errors.As(err, &steering):
		if outcome := steering.Outcome(); outcome != Skipped {
			return outcome
		}
		if failed := besideSkips(err); failed != nil {
			return Classify(failed)
		}
		return Skipped
	case errors.Is(err, dedup.ErrNoID), errors.Is(err, dedup.ErrConflict),
		errors.Is(err, dedup.ErrBadOutput), errors.Is(err, dedup.ErrBatchOutput):
		return Buried
	case errors.Is(err, dedup.ErrInFlight), errors.Is(err, dedup.ErrLeaseLost), errors.Is(err, dedup.ErrLostRace):
		// Somebody else is at it. To bury the event here would be to dead-letter
		// what another worker is about to commit.
		return Returned
	default:
		return Retried
	}
}

// besideSkips is what remains of an error without its skips, and without what wraps each
// of them alone; nil: nothing.
func besideSkips(err error) error {
	var skip interface{ Outcome() Outcome }
	if !errors.As(err, &skip) || skip.Outcome() != Skipped {
		return err
	}
	switch wrapping := err.(type) {
	case interface{ Unwrap() []error }:
		var rest []error
		for _, member := range wrapping.Unwrap() {
			rest = append(rest, besideSkips(member))
		}
		return errors.Join(rest...)
	case interface{ Outcome() Outcome }:
		return nil
	case interface{ Unwrap() error }:
		return besideSkips(wrapping.Unwrap())
	default:
		return nil // it says so by a method As
	}
}

// fromAround reports whether an error is that of a store or a broker around the
// handler. It tells nothing about the event: however often it comes, the event is
// not buried, or an outage would move a whole topic to the dead letters.
func fromAround(err error) bool {
	var step *dedup.StepError
	return errors.As(err, &step) && step.Infrastructure()
}

// Permanent marks an error as one that no retry can mend: the event goes to the
// dead-letter topic now. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &PermanentError{Err: err}
}

// PermanentError is the error made by Permanent.
type PermanentError struct{ Err error }

func (e *PermanentError) Error() string { return e.Err.Error() }
func (e *PermanentError) Unwrap() error { return e.Err }

// Outcome returns Buried.
func (e *PermanentError) Outcome() Outcome { return Buried }

// RetryAfter gives the delivery back to the broker, which hands it out again no
// sooner than after d. It does not count as a retry in this process; the
// broker's own limit of deliveries applies. RetryAfter(d, nil) is nil.
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &RetryAfterError{Delay: d, Err: err}
}

// RetryAfterError is the error made by RetryAfter.
type RetryAfterError struct {
	Delay time.Duration
	Err   error
}

func (e *RetryAfterError) Error() string {
	return fmt.Sprintf("retry after %s: %v", e.Delay, e.Err)
}
func (e *RetryAfterError) Unwrap() error { return e.Err }

// Outcome returns Returned.
func (e *RetryAfterError) Outcome() Outcome { return Returned }

// Skip ends a handler that has nothing to do for an event: the event is marked
// and acknowledged, and none of its outputs are sent, those already emitted
// included. SQL writes of the handler in the inbox's transaction do commit. The
// reason is logged and passed to Options.OnSkip. Joined with an error that is no Skip
// it does nothing: that error decides.
func Skip(reason string) error { return &SkipError{Reason: reason} }

// SkipError is the error made by Skip.
type SkipError struct{ Reason string }

func (e *SkipError) Error() string { return "skip event: " + e.Reason }

// Outcome returns Skipped.
func (e *SkipError) Outcome() Outcome { return Skipped }

// GaveUpError is what Retry makes of an error that ends in the dead-letter topic:
// because it came again on every attempt, or because it came on a later attempt
// and no retry can mend it.
type GaveUpError struct {
	// Attempts counts the runs of the handler in this process, for this delivery.
	Attempts int
	// Err is the error of the last one.
	Err error
}

func (e *GaveUpError) Error() string {
	return fmt.Sprintf("gave up after %d attempts: %v", e.Attempts, e.Err)
}
func (e *GaveUpError) Unwrap() error { return e.Err }

// Outcome returns Buried.
func (e *GaveUpError) Outcome() Outcome { return Buried }
