package handlers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/memory"
	"github.com/hapax-go/hapax/handlers"
)

var errBoom = errors.New("boom")

func TestClassify(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want handlers.Outcome
	}{
		"nil":                {nil, handlers.Processed},
		"plain":              {errBoom, handlers.Retried},
		"panic":              {&handlers.PanicError{Value: "x"}, handlers.Retried},
		"cancelled":          {context.Canceled, handlers.Retried},
		"permanent":          {handlers.Permanent(errBoom), handlers.Buried},
		"retry after":        {handlers.RetryAfter(time.Second, errBoom), handlers.Returned},
		"skip":               {handlers.Skip("x"), handlers.Skipped},
		"gave up":            {&handlers.GaveUpError{Attempts: 5, Err: errBoom}, handlers.Buried},
		"undecodable":        {&handlers.DecodeError{Err: errBoom}, handlers.Buried},
		"no id":              {dedup.ErrNoID, handlers.Buried},
		"conflict":           {dedup.ErrConflict, handlers.Buried},
		"batch output":       {dedup.ErrBatchOutput, handlers.Buried},
		"bad output":         {&dedup.StepError{Step: "commit", Err: dedup.ErrBadOutput}, handlers.Buried},
		"in flight":          {dedup.ErrInFlight, handlers.Returned},
		"lease lost":         {&dedup.StepError{Step: "commit", Err: dedup.ErrLeaseLost}, handlers.Returned},
		"lost race":          {dedup.ErrLostRace, handlers.Returned},
		"refused rows":       {&dedup.StepError{Step: "commit", Err: dedup.ErrRefused}, handlers.Retried},
		"store away":         {&dedup.StepError{Step: "claim", Err: errBoom}, handlers.Retried},
		"outermost decides":  {handlers.Permanent(handlers.RetryAfter(time.Second, errBoom)), handlers.Buried},
		"outermost decides2": {handlers.RetryAfter(time.Second, handlers.Permanent(errBoom)), handlers.Returned},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, handlers.Classify(test.err))
			if test.err != nil {
				require.Equal(t, test.want, handlers.Classify(fmt.Errorf("place order: %w", test.err)), "wrapped")
				joined := test.want
				if joined == handlers.Skipped {
					joined = handlers.Retried
				}
				require.Equal(t, joined, handlers.Classify(errors.Join(errors.New("other"), test.err)), "joined")
			}
		})
	}
	require.Equal(t, "processed skipped retried returned buried outcome 9", fmt.Sprint(
		handlers.Processed, " ", handlers.Skipped, " ", handlers.Retried, " ", handlers.Returned, " ", handlers.Buried, " ", handlers.Outcome(9)))
}

// A handler that skips, and whose deferred clean-up fails, has failed: to mark the event
// would be to lose it.
func TestAnErrorBesideASkipDecides(t *testing.T) {
	skip := handlers.Skip("x")
	for name, test := range map[string]struct {
		err  error
		want handlers.Outcome
	}{
		"skip first":           {errors.Join(skip, errBoom), handlers.Retried},
		"skip last":            {errors.Join(errBoom, skip), handlers.Retried},
		"wrapped":              {fmt.Errorf("place order: %w", errors.Join(fmt.Errorf("a: %w", skip), errBoom)), handlers.Retried},
		"in one format":        {fmt.Errorf("%w; and %w", skip, errBoom), handlers.Retried},
		"deeper":               {errors.Join(skip, errors.Join(skip, fmt.Errorf("b: %w", errBoom))), handlers.Retried},
		"permanent last":       {errors.Join(skip, handlers.Permanent(errBoom)), handlers.Buried},
		"later":                {errors.Join(skip, handlers.RetryAfter(time.Second, errBoom)), handlers.Returned},
		"only skips":           {errors.Join(skip, fmt.Errorf("a: %w", skip)), handlers.Skipped},
		"nothing else":         {errors.Join(skip, nil), handlers.Skipped},
		"wrapped by permanent": {handlers.Permanent(errors.Join(skip, errBoom)), handlers.Buried},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, handlers.Classify(test.err)) })
	}
}

func TestErrorsThatSteer(t *testing.T) {
	require.NoError(t, handlers.Permanent(nil))
	require.NoError(t, handlers.RetryAfter(time.Second, nil))

	err := handlers.Permanent(errBoom)
	require.ErrorIs(t, err, errBoom)
	require.EqualError(t, err, "boom")
	var permanent *handlers.PermanentError
	require.ErrorAs(t, err, &permanent)

	err = handlers.RetryAfter(time.Minute, errBoom)
	require.ErrorIs(t, err, errBoom)
	require.EqualError(t, err, "retry after 1m0s: boom")
	var later *handlers.RetryAfterError
	require.ErrorAs(t, err, &later)
	require.Equal(t, time.Minute, later.Delay)

	require.EqualError(t, handlers.Skip("no stock"), "skip event: no stock")
	require.EqualError(t, &handlers.GaveUpError{Attempts: 3, Err: errBoom}, "gave up after 3 attempts: boom")
}

// A skipped event is marked, its emitted outputs are not sent, and the reason is
// logged and observed.
func TestSkip(t *testing.T) {
	sent, ledger := &recorder{}, memory.New(memory.Config{Window: time.Hour})
	defer ledger.Close()
	strategy := dedup.NewLedgerStrategy(ledger, sent, dedup.LedgerOptions{})
	defer strategy.Close()
	middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy})
	require.NoError(t, err)

	var log bytes.Buffer
	var reasons []string
	runs := 0
	handler := adapt(t, func(ctx context.Context, o order) (shipment, error) {
		runs++
		require.NoError(t, handlers.Emit(ctx, "a", "x"))
		return shipment{"s"}, fmt.Errorf("place order: %w", handlers.Skip("no stock"))
	}, handlers.Options{
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
		OnSkip: func(msg *message.Message, reason string) { reasons = append(reasons, msg.UUID+" "+reason) },
	})
	for range 2 {
		_, err := middleware.Wrap(handler.Single)(delivered(`{}`))
		require.NoError(t, err)
	}
	require.Equal(t, 1, runs, "the mark is durable: a second delivery is a duplicate")
	require.Empty(t, sent.sent)
	require.Equal(t, []string{"event-1 no stock"}, reasons)
	require.Contains(t, log.String(), `msg="event skipped" reason="no stock" event_id=event-1`)
}
