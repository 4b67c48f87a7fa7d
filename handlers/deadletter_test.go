package handlers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"
	pkgerrors "github.com/pkg/errors"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/handlers"
)

// cemetery remembers letters, or refuses them.
type cemetery struct {
	letters []dedup.Output
	err     error
}

func (c *cemetery) deadLetter() handlers.DeadLetter {
	return handlers.DeadLetter{
		Service: "fulfilment", Handler: "place", Topic: "orders", Logger: quiet,
		Bury: func(_ context.Context, _ *message.Message, letter dedup.Output) error {
			if c.err == nil {
				c.letters = append(c.letters, letter)
			}
			return c.err
		},
	}
}

// chain is the whole chain around a handler.
func (c *cemetery) chain(t *testing.T, fn any) message.HandlerFunc {
	t.Helper()
	handle, _ := inside(t, adapt(t, fn, handlers.Options{}).Single)
	return c.deadLetter().Middleware(handlers.Retry{Logger: quiet}.Middleware(handle))
}

// takeStack removes the stack, which differs between machines.
func takeStack(letter *message.Message) string {
	stack := letter.Metadata.Get(dedup.MetaDeadStack)
	delete(letter.Metadata, dedup.MetaDeadStack)
	return stack
}

func TestLetter(t *testing.T) {
	const decodeError = `decode json as handlers_test.order at orders/3@1234: invalid character 'x' looking for beginning of value; payload starts with "x"`
	for name, test := range map[string]struct {
		fn                     func(context.Context, order) error
		payload                string
		reason, text, attempts string
		stack                  string
	}{
		"permanent":   {func(context.Context, order) error { return handlers.Permanent(errBoom) }, `{}`, "permanent", "boom", "1", ""},
		"exhausted":   {func(context.Context, order) error { return errBoom }, `{}`, "retries exhausted", "gave up after 5 attempts: boom", "5", ""},
		"undecodable": {func(context.Context, order) error { return nil }, `x`, "undecodable", decodeError, "1", ""},
		"panic":       {func(context.Context, order) error { panic("ouch") }, `{}`, "retries exhausted", "gave up after 5 attempts: handler panicked: ouch", "5", "deadletter_test.go"},
		"traced":      {func(context.Context, order) error { return handlers.Permanent(pkgerrors.New("boom")) }, `{}`, "permanent", "boom", "1", "deadletter_test.go"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c cemetery
				msg := delivered(test.payload)
				msg.Metadata = message.Metadata{dedup.MetaKey: "k", "own": "1"}
				outputs, err := c.chain(t, test.fn)(msg)
				require.NoError(t, err, "acknowledged")
				require.Empty(t, outputs)
				require.Len(t, c.letters, 1)
				letter := c.letters[0]
				require.Equal(t, "orders.dead", letter.Topic)
				require.Equal(t, "event-1", letter.Message.UUID)
				require.Equal(t, test.payload, string(letter.Message.Payload))
				stack := takeStack(letter.Message)
				require.Contains(t, stack, test.stack)
				require.Equal(t, test.stack == "", stack == "")
				require.LessOrEqual(t, len(stack), 4<<10)
				require.Equal(t, message.Metadata{
					"own": "1", "hapax_key": "k", "hapax_event_id": "event-1",
					"hapax_dead_reason": test.reason, "hapax_dead_error": test.text,
					"hapax_dead_attempts": test.attempts, "hapax_dead_topic": "orders",
					"hapax_dead_position": "orders/3@1234", "hapax_dead_service": "fulfilment",
					"hapax_dead_handler": "place", "hapax_dead_at": time.Now().UTC().Format(time.RFC3339Nano),
				}, letter.Message.Metadata)
				require.Equal(t, message.Metadata{dedup.MetaKey: "k", "own": "1"}, msg.Metadata, "the delivery is not changed")
			})
		})
	}
}

func TestLetterForErrorsAroundTheHandler(t *testing.T) {
	for reason, cause := range map[string]error{
		handlers.ReasonNoID:      dedup.ErrNoID,
		handlers.ReasonConflict:  dedup.ErrConflict,
		handlers.ReasonBadOutput: &dedup.StepError{Step: "commit", Err: dedup.ErrBadOutput},
	} {
		var c cemetery
		_, err := c.deadLetter().Middleware(failing(new(int), cause))(message.NewMessage("", nil))
		require.NoError(t, err)
		metadata := c.letters[0].Message.Metadata
		require.Equal(t, reason, metadata.Get(dedup.MetaDeadReason))
		require.NotContains(t, metadata, dedup.MetaEventID, "none was found, none is made up")
		require.NotContains(t, metadata, dedup.MetaDeadPosition)
	}
}

// The letter is the event as delivered, whatever a handler did to the message.
func TestLetterIsAsDelivered(t *testing.T) {
	var c cemetery
	msg := delivered("payload")
	msg.Metadata.Set("a", "1")
	_, err := c.deadLetter().Middleware(func(msg *message.Message) ([]*message.Message, error) {
		msg.Metadata.Set("a", "2")
		msg.Payload = nil
		msg.SetContext(context.Background())
		return nil, handlers.Permanent(errBoom)
	})(msg)
	require.NoError(t, err)
	letter := c.letters[0].Message
	require.Equal(t, "1", letter.Metadata.Get("a"))
	require.Equal(t, "payload", string(letter.Payload))
	require.Equal(t, "orders/3@1234", letter.Metadata.Get(dedup.MetaDeadPosition))
}

// The event ID travels as metadata, wherever it was found: a broker's own field
// would not come along. A letter that died before tells about this death only.
func TestLetterOfLetter(t *testing.T) {
	var c cemetery
	msg := delivered("")
	msg.Metadata.Set(dedup.MetaBrokerID, "from-broker")
	msg.Metadata.Set(dedup.MetaDeadStack, "old stack")
	msg.Metadata.Set(dedup.MetaDeadReason, "old reason")
	d := c.deadLetter()
	d.To = "graves"
	_, err := d.Middleware(failing(new(int), handlers.Permanent(errBoom)))(msg)
	require.NoError(t, err)
	require.Equal(t, "graves", c.letters[0].Topic)
	metadata := c.letters[0].Message.Metadata
	require.Equal(t, "from-broker", metadata.Get(dedup.MetaEventID))
	require.Equal(t, handlers.ReasonPermanent, metadata.Get(dedup.MetaDeadReason))
	require.NotContains(t, metadata, dedup.MetaDeadStack)
}

func TestLetterIsBounded(t *testing.T) {
	var c cemetery
	text := "a\x00b\xffc\n" + strings.Repeat("é", 4000)
	_, err := c.deadLetter().Middleware(failing(new(int), handlers.Permanent(errors.New(text))))(delivered(""))
	require.NoError(t, err)
	got := c.letters[0].Message.Metadata.Get(dedup.MetaDeadError)
	require.LessOrEqual(t, len(got), 2<<10)
	require.Greater(t, len(got), 2<<10-4)
	require.True(t, utf8.ValidString(got))
	require.True(t, strings.HasPrefix(got, "a\ufffdb\ufffdc\né"), "%.20q", got)
	require.True(t, strings.HasSuffix(got, "é…"))
}

func TestGoesBackToTheBroker(t *testing.T) {
	for name, test := range map[string]struct {
		err     error
		delay   time.Duration
		counted int // against the limit of deliveries
	}{
		"in flight":   {dedup.ErrInFlight, 0, 0},
		"lease lost":  {dedup.ErrLeaseLost, 0, 1},
		"plain":       {errBoom, 0, 1}, // without Retry in the chain
		"retry after": {fmt.Errorf("wrapped: %w", handlers.RetryAfter(time.Hour, errBoom)), time.Hour, 1},
		"in the past": {handlers.RetryAfter(-time.Hour, errBoom), 0, 1}, // as of time.Until
		"store away":  {&dedup.StepError{Step: "claim", Err: errBoom}, time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var c cemetery
			msg := delivered("")
			_, err := c.deadLetter().Middleware(failing(new(int), test.err))(msg)
			require.Equal(t, test.err, err, "as it is")
			require.Empty(t, c.letters)
			delivery := adapters.DeliveryFrom(msg.Context())
			require.Equal(t, test.delay, delivery.Requested())
			require.Equal(t, test.counted, delivery.Counted(1))
		})
	}
}

func TestCancelledDeliveryIsNotBuried(t *testing.T) {
	var c cemetery
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	msg := delivered("")
	msg.SetContext(ctx)
	cause := handlers.Permanent(errBoom)
	_, err := c.deadLetter().Middleware(failing(new(int), cause))(msg)
	require.Equal(t, cause, err)
	require.Empty(t, c.letters)
}

// A letter that cannot be published is not lost, and does not loop hot: the
// delivery stays away longer each time.
func TestBuryFails(t *testing.T) {
	c := cemetery{err: errors.New("broker is away")}
	d := c.deadLetter()
	for attempt, want := range map[int]time.Duration{
		0: time.Second, 1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 7: time.Minute, 1 << 40: time.Minute,
	} {
		delivery := &adapters.Delivery{Attempt: attempt}
		msg := message.NewMessage("event-1", nil)
		msg.SetContext(adapters.WithDelivery(t.Context(), delivery))
		_, err := d.Middleware(failing(new(int), handlers.Permanent(errBoom)))(msg)
		require.EqualError(t, err, "publish dead letter to orders.dead: broker is away; the event's own error: boom")
		require.ErrorIs(t, err, c.err)
		require.ErrorIs(t, err, errBoom)
		require.Equal(t, want, delivery.Requested(), "attempt %d", attempt)
	}
}

// Where the adapter cannot postpone, the middleware waits itself.
func TestPostponeWithoutDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c := cemetery{err: errors.New("broker is away")}
		_, err := c.deadLetter().Middleware(failing(new(int), handlers.Permanent(errBoom)))(message.NewMessage("event-1", nil))
		require.Error(t, err)
		require.Equal(t, time.Second, time.Since(start))

		start = time.Now()
		_, err = c.deadLetter().Middleware(failing(new(int), handlers.RetryAfter(time.Hour, errBoom)))(message.NewMessage("event-1", nil))
		require.Error(t, err)
		require.Equal(t, time.Minute, time.Since(start), "MaxRetryDelay bounds how long a delivery is held")
	})
}

func TestBuryIsNotSet(t *testing.T) {
	msg := delivered("")
	_, err := handlers.DeadLetter{Topic: "orders", Logger: quiet}.Middleware(failing(new(int), handlers.Permanent(errBoom)))(msg)
	require.ErrorContains(t, err, "DeadLetter.Bury is not set")
	require.Equal(t, time.Second, adapters.DeliveryFrom(msg.Context()).Requested())
}

func TestSkipFromOutside(t *testing.T) {
	var c cemetery
	_, err := c.deadLetter().Middleware(failing(new(int), handlers.Skip("x")))(delivered(""))
	require.NoError(t, err)
	require.Empty(t, c.letters)
}

func TestSuccessPassesThrough(t *testing.T) {
	var c cemetery
	out := message.Messages{message.NewMessage("o", nil)}
	got, err := c.deadLetter().Middleware(func(*message.Message) ([]*message.Message, error) { return out, nil })(delivered(""))
	require.NoError(t, err)
	require.True(t, bytes.Equal(out[0].Payload, got[0].Payload))
	require.Same(t, out[0], got[0])
}

// A service that stops does not wait until a delivery that it holds may go back.
func TestPostponingEndsWithTheDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		msg := message.NewMessage("event-1", nil)
		msg.SetContext(ctx)
		c := cemetery{}
		_, err := c.deadLetter().Middleware(failing(new(int), handlers.RetryAfter(time.Hour, errBoom)))(msg)
		require.ErrorIs(t, err, errBoom)
		require.Equal(t, time.Second, time.Since(start)) // of the bubble's clock
	})
}
