package framework_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/handlers"
)

// A letter that the broker buried was seen by no handler's identity. Put back it is
// still the event that it was, under the config's rule or the handler's own: a handler
// that has processed another copy of it meanwhile drops it.
func TestARequeuedEventKeepsItsIdentity(t *testing.T) {
	const rule = "dedup: {id: {pointer: /id, ignore_uuid: true}}\n"
	own := framework.Identity(dedup.Identity{Pointer: "/id", IgnoreUUID: true})
	for name, test := range map[string]struct {
		config    string
		options   []framework.HandleOption
		copied    bool // another copy is processed before
		eventID   string
		committed string
	}{
		"of the config, processed":     {rule, nil, true, "1", framework.CommittedYes},
		"of the config, not processed": {rule, nil, false, "1", framework.CommittedNo},
		// The operator knows the config only, and looks for the mark of another ID.
		"of the handler, processed": {"", []framework.HandleOption{own}, true, "uuid-1", framework.CommittedNo},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := parse(t, test.config+"consumer: {max_deliveries: 2, redelivery_delay: 1ms}\n")
			service := newService(t, cfg)
			var mended atomic.Bool
			runs := &counter{}
			framework.Handle(service, "orders", func(_ context.Context, order Order) (Shipment, error) {
				if !mended.Load() {
					return Shipment{}, handlers.RetryAfter(time.Millisecond, errors.New("out of stock"))
				}
				runs.add(order.ID)
				return Shipment{OrderID: order.ID}, nil
			}, append(test.options, framework.To("shipments"))...)
			send := func(uuid, payload string) {
				msg := message.NewMessage(uuid, []byte(payload))
				msg.Metadata.Set(dedup.MetaKey, "one after the other")
				require.NoError(t, service.Publisher().Publish("orders", msg))
			}
			stop := start(t, service)
			operator, err := framework.NewOperator(t.Context(), cfg, slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			defer operator.Close()

			send("uuid-1", `{"id":"1"}`)
			read(t, service, "orders.dead", 1)
			mended.Store(true)
			expected := 1 // outputs: of the event, and of the one behind it
			if test.copied {
				send("uuid-2", `{"id":"1"}`)
				read(t, service, "shipments", expected)
			}
			require.NoError(t, operator.Letters(t.Context(), "orders", func(letter *framework.Letter) (bool, error) {
				require.Equal(t, test.eventID, letter.EventID)
				committed, err := operator.Requeue(t.Context(), letter)
				require.Equal(t, test.committed, committed.State, committed.Why)
				return true, err
			}))
			send("uuid-3", `{"id":"behind it"}`)
			require.Eventually(t, func() bool { return runs.of("behind it") == 1 }, patience, patience/1000)
			require.Equal(t, 1, runs.of("1"), "effects of the event")
			require.NoError(t, stop())
		})
	}
}

// A topic may be called at the broker what another one is called in the code: an event goes
// back to the topic that it came from, whoever gave it up.
func TestARequeuedEventGoesBackToItsTopic(t *testing.T) {
	for name, failure := range map[string]error{
		"buried by the handler": handlers.Permanent(errors.New("out of stock")),
		"buried by the broker":  handlers.RetryAfter(time.Millisecond, errors.New("out of stock")),
	} {
		t.Run(name, func(t *testing.T) {
			cfg := parse(t, "topics: {orders: {name: returns}, returns: {name: orders}}\nconsumer: {max_deliveries: 2, redelivery_delay: 1ms}\n")
			service := newService(t, cfg)
			var mended atomic.Bool
			runs := &counter{}
			framework.Handle(service, "orders", func(_ context.Context, order Order) error {
				if !mended.Load() {
					return failure
				}
				runs.add("orders")
				return nil
			})
			framework.Handle(service, "returns", func(context.Context, Order) error { runs.add("returns"); return nil })
			publish(t, service, "orders", "1", Order{ID: "1"})
			stop := start(t, service)
			operator, err := framework.NewOperator(t.Context(), cfg, slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			defer operator.Close()
			read(t, service, "returns.dead", 1) // by the broker's name
			mended.Store(true)
			require.NoError(t, operator.Letters(t.Context(), "orders", func(letter *framework.Letter) (bool, error) {
				_, err := operator.Requeue(t.Context(), letter)
				return true, err
			}))
			require.Eventually(t, func() bool { return runs.of("orders")+runs.of("returns") > 0 }, patience, patience/1000)
			require.Equal(t, 1, runs.of("orders"))
			require.NoError(t, stop())
		})
	}
}
