package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// DeadLetter is a Watermill middleware that publishes an event to a dead-letter
// topic when Classify calls its error Buried, and then lets the delivery be
// acknowledged. Every other error it returns, so that the delivery goes back to
// the broker: later if a RetryAfter asks so, or when a store or broker around the
// handler has failed.
//
//	            ┌─ nil ──────────────────────────────► ack
//	handler ────┼─ buried ──► Bury ─┬─ nil ──────────► ack
//	            │                   └─ error ────────► nack, growing delay
//	            └─ other error, delivery cancelled ──► nack
type DeadLetter struct {
	// Service and Handler name who could not process the event.
	Service, Handler string
	// Topic is where the event came from.
	Topic string
	// To is the topic of the letters. Default: dedup.DeadLetterTopic(Topic).
	To string
	// Identity finds the event ID. The letter carries it as metadata, because
	// the place it was found at (a broker's own field) may not travel with it.
	Identity dedup.Identity
	// Bury makes the letter durable, on behalf of msg. Required: without it every
	// event that would be buried goes back to the broker.
	Bury func(ctx context.Context, msg *message.Message, letter dedup.Output) error
	// RetryDelay is how long the delivery stays away after Bury has failed; it
	// doubles with every further delivery up to MaxRetryDelay. Default 1s and 1m.
	RetryDelay, MaxRetryDelay time.Duration
	// Logger is told about each letter. Default: slog.Default().
	Logger *slog.Logger
}

// Middleware wraps a handler.
func (d DeadLetter) Middleware(handle message.HandlerFunc) message.HandlerFunc {
	if d.To == "" {
		d.To = dedup.DeadLetterTopic(d.Topic)
	}
	if d.RetryDelay <= 0 {
		d.RetryDelay = time.Second
	}
	if d.MaxRetryDelay <= 0 {
		d.MaxRetryDelay = time.Minute
	}
	if d.Bury == nil {
		d.Bury = func(context.Context, *message.Message, dedup.Output) error {
			return errors.New("DeadLetter.Bury is not set")
		}
	}
	if d.Logger == nil {
		d.Logger = slog.Default()
	}
	return func(msg *message.Message) ([]*message.Message, error) {
		delivered := snap(msg)
		outputs, err := handle(msg)
		if err == nil {
			return outputs, nil
		}
		delivered.restore(msg)
		ctx := delivered.ctx
		outcome := Classify(err)
		var later *RetryAfterError
		switch {
		case outcome == Skipped:
			// From a middleware outside of dedup; a handler's own never comes here.
			d.Logger.LogAttrs(ctx, slog.LevelInfo, "event skipped", slog.String("handler", d.Handler), slog.String("topic", d.Topic),
				slog.String("reason", err.Error()), slog.String("uuid", msg.UUID))
			return nil, nil
		case outcome == Returned && errors.As(err, &later):
			d.postpone(ctx, later.Delay)
			return nil, err
		case outcome != Buried, ctx.Err() != nil:
			switch {
			case fromAround(err):
				adapters.DeliveryFrom(ctx).Excuse()
				d.postpone(ctx, d.delay(ctx))
			case errors.Is(err, dedup.ErrInFlight): // a copy of what is being processed
				adapters.DeliveryFrom(ctx).Excuse()
			}
			return nil, err
		}
		letter := dedup.Output{Topic: d.To, Message: d.letter(msg, err)}
		if failure := d.Bury(ctx, msg, letter); failure != nil {
			d.postpone(ctx, d.delay(ctx))
			return nil, fmt.Errorf("publish dead letter to %s: %w; the event's own error: %w", d.To, failure, err)
		}
		d.Logger.LogAttrs(ctx, slog.LevelError, "event dead-lettered",
			slog.String("handler", d.Handler), slog.String("topic", d.Topic),
			slog.String("reason", letter.Message.Metadata.Get(dedup.MetaDeadReason)),
			slog.String("event_id", letter.Message.Metadata.Get(dedup.MetaEventID)),
			slog.String("to", d.To), slog.Any("error", err))
		return nil, nil
	}
}

// delay grows with the delivery's number, which the broker keeps: a worker that
// was restarted in between does not begin anew.
func (d DeadLetter) delay(ctx context.Context) time.Duration {
	delay := d.RetryDelay
	if delivery := adapters.DeliveryFrom(ctx); delivery != nil {
		for i := 1; i < delivery.Attempt && delay < d.MaxRetryDelay; i++ {
			delay *= 2
		}
	}
	return min(delay, d.MaxRetryDelay)
}

// postpone keeps the delivery away for a time. Where the adapter cannot, as with
// an official Watermill one, it holds the delivery for up to MaxRetryDelay:
// handing it back at once would let it come again at once, and loop hot.
func (d DeadLetter) postpone(ctx context.Context, delay time.Duration) {
	delay = max(delay, 0)
	if delivery := adapters.DeliveryFrom(ctx); delivery != nil {
		delivery.RetryAfter(delay)
		return
	}
	sleep(ctx, min(delay, d.MaxRetryDelay))
}
