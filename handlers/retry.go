package handlers

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/cenkalti/backoff/v5"

	"github.com/hapax-go/hapax/dedup"
)

// Retry is a Watermill middleware that runs a handler again, in this process,
// when it fails with an error that Classify calls Retried. Between attempts it
// waits a random time between zero and an interval that grows ("full jitter":
// deliveries that failed together do not come back together). The delivery stays
// unacknowledged meanwhile.
//
// Each attempt finds the message's context, metadata and payload slice as they
// were delivered. Bytes of the payload that a handler changes in place are not
// restored.
//
// The zero value works.
type Retry struct {
	// MaxAttempts bounds the runs of the handler for one delivery, the first
	// included. 1: never again. Default (0 and below): 5.
	MaxAttempts int
	// InitialInterval bounds the wait before the second attempt. Default 100ms;
	// negative: no waits.
	InitialInterval time.Duration
	// MaxInterval bounds every wait. Default 10s; negative: no waits.
	MaxInterval time.Duration
	// Multiplier makes each interval longer than the last. Default 2.
	Multiplier float64
	// MaxElapsed bounds the time from the first attempt to the start of the
	// last. 0: no bound.
	MaxElapsed time.Duration
	// Handler, Topic and Identity say in the log whose attempt failed, and for which
	// event.
	Handler, Topic string
	Identity       dedup.Identity
	// Logger is told about each failed attempt. Default: slog.Default().
	Logger *slog.Logger
	// OnRetry is called before each wait. attempt is the one that failed,
	// counted from 1.
	OnRetry func(msg *message.Message, attempt int, err error, wait time.Duration)
}

func (r Retry) withDefaults() Retry {
	if r.MaxAttempts <= 0 {
		r.MaxAttempts = 5
	}
	r.InitialInterval = waitOr(r.InitialInterval, 100*time.Millisecond)
	r.MaxInterval = waitOr(r.MaxInterval, 10*time.Second)
	if r.Multiplier < 1 {
		r.Multiplier = 2
	}
	if r.Logger == nil {
		r.Logger = slog.Default()
	}
	return r
}

// waitOr is d, the default for 0, and no wait for less.
func waitOr(d, fallback time.Duration) time.Duration { return max(cmp.Or(d, fallback), 0) }

// Middleware wraps a handler. Its errors that end in the dead-letter topic are
// wrapped in a GaveUpError, unless the first attempt was the last.
func (r Retry) Middleware(handle message.HandlerFunc) message.HandlerFunc {
	r = r.withDefaults()
	return func(msg *message.Message) ([]*message.Message, error) {
		delivered := snap(msg)
		ctx := delivered.ctx
		start := time.Now()
		var intervals *backoff.ExponentialBackOff
		for attempt := 1; ; attempt++ {
			outputs, err := handle(msg)
			if err == nil {
				return outputs, nil
			}
			delivered.restore(msg)
			// A handler's own context may be over without the delivery's being:
			// its deadline has passed, its lease was lost. Only the delivery's
			// own end, such as a shutdown, is a reason to stop.
			if ctx.Err() != nil {
				return nil, err
			}
			switch outcome := Classify(err); {
			case outcome == Buried && attempt == 1:
				return nil, err
			case outcome == Buried:
				return nil, &GaveUpError{Attempts: attempt, Err: err}
			case outcome != Retried:
				return nil, err
			}
			if intervals == nil {
				intervals = r.intervals()
			}
			wait := intervals.NextBackOff()
			if attempt >= r.MaxAttempts || r.MaxElapsed > 0 && time.Since(start)+wait > r.MaxElapsed {
				if fromAround(err) {
					return nil, err
				}
				return nil, &GaveUpError{Attempts: attempt, Err: err}
			}
			r.log(ctx, msg, attempt, wait, err)
			if r.OnRetry != nil {
				r.OnRetry(msg, attempt, err, wait)
			}
			if !sleep(ctx, wait) {
				return nil, fmt.Errorf("wait for attempt %d: %w; last error: %w", attempt+1, context.Cause(ctx), err)
			}
		}
	}
}

// log tells of a failed attempt. Finding the event ID may mean to read the payload, so it
// is looked for only when somebody listens.
func (r Retry) log(ctx context.Context, msg *message.Message, attempt int, wait time.Duration, err error) {
	if !r.Logger.Enabled(ctx, slog.LevelWarn) {
		return
	}
	eventID, _, _ := r.Identity.Find(msg) // one without an ID is logged without
	r.Logger.LogAttrs(ctx, slog.LevelWarn, "handler failed, will run again",
		slog.String("handler", r.Handler), slog.String("topic", r.Topic), slog.String("event_id", eventID),
		slog.Int("attempt", attempt), slog.Int("max_attempts", r.MaxAttempts),
		slog.Duration("wait", wait), slog.String("uuid", msg.UUID), slog.Any("error", err))
}

// intervals draws from [0, interval]: the library draws from interval·(1 ± factor),
// so half the interval with a factor of 1 is full jitter. Its own loop,
// backoff.Retry, is not used: it would act on the library's Permanent and
// RetryAfter errors from loops inside the handler, which mean those loops.
func (r Retry) intervals() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{
		InitialInterval:     min(r.InitialInterval, r.MaxInterval) / 2,
		MaxInterval:         r.MaxInterval / 2,
		Multiplier:          r.Multiplier,
		RandomizationFactor: 1,
	}
}

// sleep waits, and reports whether it was not cut short.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// snapshot is a message as it was delivered.
type snapshot struct {
	ctx      context.Context
	metadata message.Metadata
	payload  message.Payload
}

func snap(msg *message.Message) snapshot {
	return snapshot{ctx: msg.Context(), metadata: maps.Clone(msg.Metadata), payload: msg.Payload}
}

func (s snapshot) restore(msg *message.Message) {
	msg.SetContext(s.ctx)
	msg.Metadata = maps.Clone(s.metadata)
	msg.Payload = s.payload
}
