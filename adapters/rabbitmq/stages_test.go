package rabbitmq_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
)

// note is what a consumer process tells the harness.
type note struct {
	// Had: the first stage was given a message, whether or not its handler began.
	Had *fault.Delivery `json:",omitempty"`
	// Begun: the first stage's handler has begun.
	Begun *fault.Delivery `json:",omitempty"`
	// Err: the first stage has ended with a message, in vain unless empty.
	Err string `json:",omitempty"`
}

var errRefused = errors.New("refused, as the scenario wants it")

// refusing is a publisher whose first publishes fail.
type refusing struct {
	message.Publisher
	left atomic.Int64
}

func (r *refusing) Publish(topic string, messages ...*message.Message) error {
	if r.left.Add(-1) >= 0 {
		return errRefused
	}
	return r.Publisher.Publish(topic, messages...)
}

// deaf is a ledger whose leases run out while their owner believes in them.
type deaf struct{ dedup.Ledger }

func (deaf) Renew(context.Context, time.Duration, []*dedup.Entry) error { return nil }

func (w workerSettings) delivery(msg *message.Message, event fault.Event) *fault.Delivery {
	delivery := &fault.Delivery{ID: event.ID, Consumer: w.Name, Attempt: adapters.DeliveryFrom(msg.Context()).Attempt}
	_, _ = fmt.Sscan(msg.Metadata.Get(metaCopy), &delivery.Copy)
	return delivery
}

// record tells the harness what gets to the deduplication, and what comes of it.
func (w workerSettings) record(ctx context.Context) message.HandlerMiddleware {
	return func(handle message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			var event fault.Event
			if err := json.Unmarshal(msg.Payload, &event); err != nil {
				return nil, err
			}
			_ = fault.Emit(ctx, note{Had: w.delivery(msg, event)})
			outputs, err := handle(msg)
			end := note{}
			if err != nil {
				end.Err = w.Name + ": " + err.Error()
			}
			_ = fault.Emit(ctx, end)
			return outputs, err
		}
	}
}

// relay is the first stage's handler.
func (w workerSettings) relay(ctx context.Context) message.HandlerFunc {
	var begun atomic.Int64
	return func(msg *message.Message) ([]*message.Message, error) {
		var event fault.Event
		if err := json.Unmarshal(msg.Payload, &event); err != nil {
			return nil, err
		}
		delivery := w.delivery(msg, event)
		if err := fault.Emit(ctx, note{Begun: delivery}); err != nil {
			return nil, err
		}
		if begun.Add(1) <= w.Slow || w.Slow == 0 {
			<-time.After(w.Takes) // work that knows nothing of contexts
		}
		for w.Waits && !w.released() {
			<-time.After(10 * time.Millisecond)
		}
		if delivery.Attempt <= w.FailAttempts {
			return nil, errRefused
		}
		output := message.NewMessage(event.ID, msg.Payload)
		output.Metadata.Set(metaRelay, w.Name)
		return []*message.Message{output}, nil
	}
}

// A file says that handlers need wait no longer.
func (w workerSettings) release() error {
	return os.WriteFile(filepath.Join(w.Folder, "released"), nil, 0o600)
}

func (w workerSettings) released() bool {
	_, err := os.Stat(filepath.Join(w.Folder, "released"))
	return err == nil
}

// book counts what came out of the first stage: a row for every event ID, so that
// only an output with another ID than its first copy's counts twice.
func (w workerSettings) book(books *sql.DB) message.NoPublishHandlerFunc {
	return func(msg *message.Message) (err error) {
		var event fault.Event
		if err := json.Unmarshal(msg.Payload, &event); err != nil {
			return err
		}
		effect := fault.Effect{ID: event.ID, Key: event.Key, Seq: event.Seq, Consumer: w.Name}
		if w.Plain {
			return effects.Insert(msg.Context(), books, effect)
		}
		ctx := msg.Context()
		tx, err := books.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		marked, err := tx.ExecContext(ctx, "INSERT INTO booked (id) VALUES (?) ON CONFLICT DO NOTHING", msg.Metadata.Get(dedup.MetaEventID))
		if err != nil {
			return err
		}
		if rows, err := marked.RowsAffected(); err != nil || rows == 0 {
			return err
		}
		if err := effects.Insert(ctx, tx, effect); err != nil {
			return err
		}
		return tx.Commit()
	}
}
