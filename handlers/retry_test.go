package handlers_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/cenkalti/backoff/v5"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/handlers"
)

// failing returns a handler that fails with the errors in turn, then succeeds.
func failing(runs *int, errs ...error) message.HandlerFunc {
	return func(*message.Message) ([]*message.Message, error) {
		*runs++
		if *runs <= len(errs) {
			return nil, errs[*runs-1]
		}
		return nil, nil
	}
}

func repeat(err error, n int) (errs []error) {
	for range n {
		errs = append(errs, err)
	}
	return errs
}

func TestRetryUntilSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		var seen []string
		retry := handlers.Retry{Logger: quiet, OnRetry: func(msg *message.Message, attempt int, err error, wait time.Duration) {
			seen = append(seen, fmt.Sprint(msg.UUID, " ", attempt, " ", err))
		}}
		_, err := retry.Middleware(failing(&runs, errBoom, errBoom))(delivered(""))
		require.NoError(t, err)
		require.Equal(t, 3, runs)
		require.Equal(t, []string{"event-1 1 boom", "event-1 2 boom"}, seen)
	})
}

func TestRetryGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs, start := 0, time.Now()
		_, err := handlers.Retry{Logger: quiet}.Middleware(failing(&runs, repeat(errBoom, 99)...))(delivered(""))
		var gaveUp *handlers.GaveUpError
		require.ErrorAs(t, err, &gaveUp)
		require.Equal(t, 5, gaveUp.Attempts)
		require.Equal(t, 5, runs)
		require.ErrorIs(t, err, errBoom)
		require.LessOrEqual(t, time.Since(start), 1500*time.Millisecond, "100+200+400+800 ms at most")
	})
}

// Waits are drawn from all of [0, interval], and intervals double to their bound.
func TestRetryFullJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rounds = 400
		most, least := [5]time.Duration{}, [5]time.Duration{}
		for i := range least {
			least[i] = time.Hour
		}
		retry := handlers.Retry{MaxAttempts: 6, InitialInterval: 100 * time.Millisecond, MaxInterval: 500 * time.Millisecond, Logger: quiet,
			OnRetry: func(_ *message.Message, attempt int, _ error, wait time.Duration) {
				most[attempt-1] = max(most[attempt-1], wait)
				least[attempt-1] = min(least[attempt-1], wait)
			}}
		for range rounds {
			runs := 0
			_, err := retry.Middleware(failing(&runs, repeat(errBoom, 99)...))(delivered(""))
			require.Error(t, err)
		}
		for i, interval := range []time.Duration{100, 200, 400, 500, 500} {
			interval *= time.Millisecond
			require.LessOrEqual(t, most[i], interval+1)
			require.Greater(t, most[i], interval*9/10)
			require.Less(t, least[i], interval/10)
		}
	})
}

func TestRetryBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		_, err := handlers.Retry{MaxAttempts: 1, Logger: quiet}.Middleware(failing(&runs, repeat(errBoom, 9)...))(delivered(""))
		require.EqualError(t, err, "gave up after 1 attempts: boom")
		require.Equal(t, 1, runs)

		runs, start := 0, time.Now()
		retry := handlers.Retry{MaxAttempts: 1000, InitialInterval: time.Second, MaxElapsed: 10 * time.Second, Logger: quiet}
		_, err = retry.Middleware(failing(&runs, repeat(errBoom, 2000)...))(delivered(""))
		require.Equal(t, handlers.Buried, handlers.Classify(err))
		require.LessOrEqual(t, time.Since(start), 10*time.Second)
		require.Greater(t, runs, 1)
	})
}

func TestNeverRetried(t *testing.T) {
	for name, cause := range map[string]error{
		"permanent":   handlers.Permanent(errBoom),
		"no id":       dedup.ErrNoID,
		"conflict":    dedup.ErrConflict,
		"retry after": handlers.RetryAfter(time.Hour, errBoom),
		"in flight":   dedup.ErrInFlight,
		"lease lost":  &dedup.StepError{Step: "commit", Err: dedup.ErrLeaseLost},
		"undecodable": &handlers.DecodeError{Err: errBoom},
		"skip":        handlers.Skip("x"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				runs, start := 0, time.Now()
				cause := fmt.Errorf("wrapped: %w", cause)
				_, err := handlers.Retry{Logger: quiet}.Middleware(failing(&runs, cause, cause))(delivered(""))
				require.Equal(t, cause, err, "returned as it is")
				require.Equal(t, 1, runs)
				require.Zero(t, time.Since(start))
			})
		})
	}
}

// A permanent error on a later attempt is not retried, and counts the attempts.
func TestPermanentOnLaterAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		_, err := handlers.Retry{Logger: quiet}.Middleware(failing(&runs, errBoom, handlers.Permanent(errBoom)))(delivered(""))
		require.EqualError(t, err, "gave up after 2 attempts: boom")
		require.Equal(t, 2, runs)
	})
}

// An outage of a store is retried, but is never the event's fault.
func TestStoreAwayIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		away := &dedup.StepError{Step: "claim", EventID: "event-1", Err: errBoom}
		_, err := handlers.Retry{Logger: quiet}.Middleware(failing(&runs, repeat(away, 99)...))(delivered(""))
		require.Equal(t, away, err)
		require.Equal(t, 5, runs)
	})
}

func TestRetryStopsWithTheDelivery(t *testing.T) {
	t.Run("while waiting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			shutdown := errors.New("shutting down")
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(shutdown) })
			msg, runs, start := delivered(""), 0, time.Now()
			msg.SetContext(ctx)
			retry := handlers.Retry{MaxAttempts: 1000, InitialInterval: time.Hour, MaxInterval: time.Hour, Logger: quiet}
			_, err := retry.Middleware(failing(&runs, repeat(errBoom, 99)...))(msg)
			require.ErrorIs(t, err, shutdown)
			require.ErrorIs(t, err, errBoom)
			require.Equal(t, time.Second, time.Since(start))
			require.Equal(t, handlers.Retried, handlers.Classify(err), "not a dead letter")
		})
	})
	t.Run("in the handler", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		msg, runs := delivered(""), 0
		msg.SetContext(ctx)
		_, err := handlers.Retry{Logger: quiet}.Middleware(func(*message.Message) ([]*message.Message, error) {
			runs++
			cancel()
			return nil, ctx.Err()
		})(msg)
		require.Equal(t, context.Canceled, err)
		require.Equal(t, 1, runs)
	})
	// A context of the handler's own says nothing about the delivery.
	t.Run("but not with the handler's own context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			runs := 0
			_, err := handlers.Retry{Logger: quiet}.Middleware(failing(&runs, context.Canceled, context.DeadlineExceeded))(delivered(""))
			require.NoError(t, err)
			require.Equal(t, 3, runs)
		})
	})
}

func TestRetryRestoresTheMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		msg := delivered("payload")
		msg.Metadata.Set("a", "1")
		before := msg.Context()
		runs := 0
		_, err := handlers.Retry{MaxAttempts: 3, Logger: quiet}.Middleware(func(msg *message.Message) ([]*message.Message, error) {
			runs++
			require.Equal(t, message.Metadata{"a": "1"}, msg.Metadata)
			require.Equal(t, "payload", string(msg.Payload))
			require.Equal(t, before, msg.Context())
			msg.Metadata.Set("a", "2")
			msg.Metadata.Set("b", "2")
			msg.Payload = []byte("other")
			ctx, cancel := context.WithCancel(msg.Context())
			cancel()
			msg.SetContext(ctx)
			return nil, errBoom
		})(msg)
		require.Error(t, err)
		require.Equal(t, 3, runs)
		require.Equal(t, message.Metadata{"a": "1"}, msg.Metadata)
	})
}

// Errors of a retry loop inside the handler mean that loop, not this one.
func TestForeignBackoffErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs, start := 0, time.Now()
		_, err := handlers.Retry{Logger: quiet}.Middleware(failing(&runs, backoff.Permanent(errBoom), backoff.RetryAfter(3600)))(delivered(""))
		require.NoError(t, err)
		require.Equal(t, 3, runs)
		require.Less(t, time.Since(start), time.Second)
	})
}

// What a handler returns goes through, at the first attempt and at a later one.
func TestRetryPassesOutputsOn(t *testing.T) {
	for _, failures := range []int{0, 2} {
		runs := 0
		outputs, err := handlers.Retry{InitialInterval: -1, Logger: quiet}.Middleware(func(msg *message.Message) ([]*message.Message, error) {
			if runs++; runs <= failures {
				return nil, errBoom
			}
			return message.Messages{msg}, nil
		})(delivered(""))
		require.NoError(t, err)
		require.Len(t, outputs, 1)
	}
}
