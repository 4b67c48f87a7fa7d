package handlers_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/handlers"
)

func TestRecover(t *testing.T) {
	cause := errors.New("cause")
	for name, test := range map[string]struct {
		value any
		text  string
		is    error
	}{
		"text":  {"ouch", "handler panicked: ouch", nil},
		"error": {cause, "handler panicked: cause", cause},
		"nil":   {nil, "handler panicked: " + new(runtime.PanicNilError).Error(), nil},
	} {
		t.Run(name, func(t *testing.T) {
			outputs, err := handlers.Recover(func(*message.Message) ([]*message.Message, error) { panic(test.value) })(delivered(""))
			require.Empty(t, outputs)
			require.EqualError(t, err, test.text)
			var panicked *handlers.PanicError
			require.ErrorAs(t, err, &panicked)
			require.Contains(t, string(panicked.Stack()), "TestRecover", "the stack of the panic")
			if test.is == cause {
				require.ErrorIs(t, err, cause)
			}
		})
	}
	_, err := handlers.Recover(failing(new(int), errBoom))(delivered(""))
	require.Equal(t, errBoom, err)
}

// Nobody above a handler that ends its goroutine returns, the Router included, so that
// nobody else would give its message back.
func TestRecoverGivesTheMessageBackWhenTheGoroutineEnds(t *testing.T) {
	msg := delivered("")
	var running sync.WaitGroup
	running.Go(func() {
		_, _ = handlers.Recover(func(*message.Message) ([]*message.Message, error) { runtime.Goexit(); return nil, nil })(msg)
		panic("it has returned")
	})
	running.Wait()
	select {
	case <-msg.Nacked():
	default:
		require.Fail(t, "neither acknowledged nor given back")
	}
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		msg := delivered("")
		before, start := msg.Context(), time.Now()
		slow := func(msg *message.Message) ([]*message.Message, error) {
			<-msg.Context().Done()
			return nil, fmt.Errorf("call shop: %w", msg.Context().Err())
		}
		_, err := handlers.Timeout(5 * time.Second)(slow)(msg)
		require.EqualError(t, err, "handler ran past its deadline of 5s: call shop: context deadline exceeded")
		require.Equal(t, 5*time.Second, time.Since(start))
		require.Equal(t, before, msg.Context())
		require.NoError(t, msg.Context().Err())
		require.Equal(t, handlers.Retried, handlers.Classify(err))

		// Retried, each attempt with a whole deadline, then given up.
		start = time.Now()
		_, err = handlers.Retry{MaxAttempts: 2, Logger: quiet}.Middleware(handlers.Timeout(5 * time.Second)(slow))(msg)
		require.Equal(t, handlers.Buried, handlers.Classify(err))
		require.GreaterOrEqual(t, time.Since(start), 10*time.Second)
	})
	none := func(msg *message.Message) ([]*message.Message, error) {
		_, has := msg.Context().Deadline()
		require.False(t, has)
		return nil, nil
	}
	_, err := handlers.Timeout(0)(none)(delivered(""))
	require.NoError(t, err)
}

// The commit that follows is not under the handler's deadline.
func TestTimeoutEndsWithTheHandler(t *testing.T) {
	sent := &recorder{}
	middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: dedup.Plain{Publisher: sent}})
	require.NoError(t, err)
	handler := adapt(t, func(ctx context.Context, _ order) error {
		_, has := ctx.Deadline()
		require.True(t, has)
		return handlers.Emit(ctx, "a", "x")
	}, handlers.Options{})
	_, err = middleware.Wrap(func(msg *message.Message) ([]*message.Message, error) {
		before := msg.Context()
		defer func() { require.Equal(t, before, msg.Context()) }()
		return handlers.Timeout(time.Minute)(handler.Single)(msg)
	})(delivered(`{}`))
	require.NoError(t, err)
	require.Len(t, sent.sent, 1)
}

func TestIdempotencyKey(t *testing.T) {
	keys := func(scope dedup.Scope, event string) (charge, mail string) {
		middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: dedup.Plain{Publisher: &recorder{}}})
		require.NoError(t, err)
		handler := adapt(t, func(ctx context.Context, _ order) (err error) {
			charge, err = handlers.IdempotencyKey(ctx, "charge")
			require.NoError(t, err)
			mail, err = handlers.IdempotencyKey(ctx, "mail")
			return err
		}, handlers.Options{})
		msg := delivered(`{}`)
		msg.UUID = event
		_, err = middleware.Wrap(handler.Single)(msg)
		require.NoError(t, err)
		return charge, mail
	}
	charge, mail := keys(scope, "event-1")
	again, _ := keys(scope, "event-1")
	require.Equal(t, charge, again, "the same on every run")
	require.Equal(t, "5f9991b94305f9f3489a90dfb40c7101", charge, "and in every release")
	other, _ := keys(scope, "event-2")
	elsewhere, _ := keys(dedup.Scope{Service: "fulfilment", Handler: "other"}, "event-1")
	require.NotContains(t, []string{mail, other, elsewhere}, charge)
	require.Regexp(t, "^[0-9a-f]{32}$", charge)

	_, err := handlers.IdempotencyKey(t.Context(), "charge")
	require.EqualError(t, err, `derive idempotency key "charge": no event in the context: run the handler inside the dedup middleware, and pass on the context it was called with`)
}

func TestIdempotencyKeyInBatch(t *testing.T) {
	middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: dedup.Plain{Publisher: &recorder{}}})
	require.NoError(t, err)
	ran := false
	handler := adapt(t, func(ctx context.Context, msgs []*message.Message) error {
		ran = true
		_, err := handlers.IdempotencyKey(ctx, "charge")
		require.ErrorContains(t, err, "a batch has no single event")
		_, err = handlers.IdempotencyKey(msgs[0].Context(), "charge")
		return err
	}, handlers.Options{})
	_, err = middleware.Batch(handler.Batch, dedup.Batching{Size: 1})(delivered(""))
	require.NoError(t, err)
	require.True(t, ran)
}

// Only an error of this deadline is told as one.
func TestTimeoutOfSomethingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := fmt.Errorf("call shop: %w", context.DeadlineExceeded)
		late := errors.New("no such order")
		for name, test := range map[string]struct {
			err    error
			after  time.Duration
			within time.Duration // the delivery's own
		}{
			"a deadline inside":       {inner, time.Second, time.Hour},
			"another error, late":     {late, time.Minute, time.Hour},
			"the end of the delivery": {inner, time.Minute, time.Second},
		} {
			msg := delivered("")
			ctx, cancel := context.WithTimeout(t.Context(), test.within)
			msg.SetContext(ctx)
			_, err := handlers.Timeout(5 * time.Second)(func(*message.Message) ([]*message.Message, error) {
				time.Sleep(test.after)
				return nil, test.err
			})(msg)
			cancel()
			require.Equal(t, test.err, err, name)
		}
	})
}
