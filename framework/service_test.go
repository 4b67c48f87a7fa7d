package framework_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/handlers"
	"github.com/hapax-go/hapax/internal/written"
	"github.com/hapax-go/hapax/outbox/inbox"
)

const patience = 20 * time.Second

// The whole idea: the same event twice, every effect once.
func TestAnEventTakesEffectOnce(t *testing.T) {
	service := newService(t, parse(t, ""))
	db := sqliteDB(t, service)
	_, err := db.ExecContext(t.Context(), `CREATE TABLE charges (order_id TEXT)`)
	require.NoError(t, err)
	framework.Handle(service, "orders", func(ctx context.Context, order Order) (Shipment, error) {
		tx, err := inbox.Tx(ctx)
		if err != nil {
			return Shipment{}, err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO charges VALUES (?)`, order.ID)
		return Shipment{OrderID: order.ID}, err
	}, framework.To("shipments"))
	for i := range 20 {
		id := fmt.Sprint(i / 2) // each twice
		publish(t, service, "orders", "event-"+id, Order{ID: id})
	}
	publish(t, service, "orders", "last", Order{ID: "last"})
	stop := start(t, service)
	ids := map[string]int{}
	for _, msg := range read(t, service, "shipments", 11) {
		ids[msg.Metadata.Get(dedup.MetaEventID)]++
	}
	require.Len(t, ids, 11, "eleven outputs, all distinct")
	var charges, distinct int
	require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*), count(DISTINCT order_id) FROM charges`).Scan(&charges, &distinct))
	require.Equal(t, 11, charges)
	require.Equal(t, 11, distinct)
	require.NoError(t, stop())
}

func TestEveryFormOfFunction(t *testing.T) {
	service := newService(t, parse(t, ""))
	runs := &counter{}
	framework.Handle(service, "one", func(ctx context.Context, order Order) error {
		runs.add("one")
		return handlers.Emit(ctx, "out", Shipment{OrderID: "emitted"}, handlers.Key("k"))
	})
	framework.Handle(service, "two", func(_ context.Context, order Order) (Shipment, error) {
		return Shipment{OrderID: "returned"}, nil
	}, framework.To("out"))
	framework.Handle(service, "three", func(_ context.Context, order Order) ([]Shipment, error) {
		return []Shipment{{OrderID: "first"}, {OrderID: "second"}}, nil
	}, framework.To("out"))
	framework.Handle(service, "four", func(_ context.Context, orders []Order) error {
		for _, order := range orders {
			runs.add(order.ID)
		}
		return nil
	}, framework.Batch(10, 10*time.Millisecond))
	framework.Handle(service, "five", func(msg *message.Message) ([]*message.Message, error) {
		return message.Messages{message.NewMessage("", []byte(`{"order_id":"raw"}`))}, nil
	}, framework.To("out"))
	framework.Handle(service, "six", func(_ context.Context, msg *message.Message) error {
		runs.add("six")
		return nil
	})
	for i, topic := range []string{"one", "two", "three", "four", "four", "five", "six"} {
		publish(t, service, topic, fmt.Sprint(i), Order{ID: fmt.Sprint("batch-", i)})
	}
	stop := start(t, service)
	require.Len(t, read(t, service, "out", 5), 5)
	for _, id := range []string{"one", "six", "batch-3", "batch-4"} {
		require.Eventually(t, func() bool { return runs.of(id) == 1 }, patience, time.Millisecond, id)
	}
	require.NoError(t, stop())
}

// Scenario: the handler fails twice, then succeeds. One output.
func TestAFailingHandlerIsRetried(t *testing.T) {
	service := newService(t, parse(t, ""))
	runs := &counter{}
	framework.Handle(service, "orders", func(_ context.Context, order Order) (Shipment, error) {
		if runs.add(order.ID) < 3 {
			return Shipment{}, errors.New("not yet")
		}
		return Shipment{OrderID: order.ID}, nil
	}, framework.To("shipments"))
	publish(t, service, "orders", "1", Order{ID: "1"})
	stop := start(t, service)
	read(t, service, "shipments", 1)
	require.Equal(t, 3, runs.of("1"))
	require.NoError(t, stop())
}

// Middlewares of Use see the outputs and run once for each attempt; those of the
// Router run once for each delivery, without outputs.
func TestMiddlewaresInsideAndOutside(t *testing.T) {
	service := newService(t, parse(t, ""))
	runs := &counter{}
	count := func(where string) message.HandlerMiddleware {
		return func(handle message.HandlerFunc) message.HandlerFunc {
			return func(msg *message.Message) ([]*message.Message, error) {
				outputs, err := handle(msg)
				runs.add(fmt.Sprintf("%s, %d outputs", where, len(outputs)))
				return outputs, err
			}
		}
	}
	service.Use(count("inside"))
	service.Router().AddMiddleware(count("outside"))
	framework.Handle(service, "orders", func(_ context.Context, order Order) (Shipment, error) {
		return Shipment{OrderID: order.ID}, nil
	}, framework.To("shipments"))
	for range 2 {
		publish(t, service, "orders", "1", Order{ID: "1"})
	}
	stop := start(t, service)
	require.Eventually(t, func() bool { return runs.of("outside, 0 outputs") == 2 }, patience, time.Millisecond)
	require.Equal(t, 1, runs.of("inside, 1 outputs"))
	require.NoError(t, stop())
}

// A message made by an outer middleware would be sent after the mark. It is
// refused, loudly.
func TestAnOutputFromOutsideIsRefused(t *testing.T) {
	service := newService(t, parse(t, ""))
	refused := make(chan struct{}, 100)
	service.Router().AddMiddleware(func(handle message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			go func() { <-msg.Nacked(); refused <- struct{}{} }()
			_, err := handle(msg)
			return message.Messages{message.NewMessage("", nil)}, err
		}
	})
	framework.Handle(service, "orders", func(context.Context, Order) error { return nil })
	publish(t, service, "orders", "1", Order{ID: "1"})
	stop := start(t, service)
	select {
	case <-refused:
	case <-time.After(patience):
		require.FailNow(t, "the message was acknowledged")
	}
	require.NoError(t, stop())
}

// SIGTERM: the handler that is running finishes, and its effect stands.
func TestDrainLetsARunningHandlerFinish(t *testing.T) {
	cfg := parse(t, "")
	service := newService(t, cfg)
	entered, finish := make(chan struct{}), make(chan struct{})
	framework.Handle(service, "orders", func(ctx context.Context, order Order) (Shipment, error) {
		close(entered)
		<-finish
		return Shipment{OrderID: order.ID}, ctx.Err()
	}, framework.To("shipments"))
	publish(t, service, "orders", "1", Order{ID: "1"})
	stop := start(t, service)
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	select {
	case <-stopped:
		require.FailNow(t, "stopped before the handler was done")
	case <-time.After(50 * time.Millisecond):
	}
	close(finish)
	require.NoError(t, <-stopped)

	again := newService(t, cfg)
	framework.Handle(again, "unrelated", func(context.Context, Order) error { return nil })
	stopAgain := start(t, again)
	require.Len(t, read(t, again, "shipments", 1), 1)
	require.NoError(t, stopAgain())
}

// At the drain deadline the handler's context ends, and its event goes back to
// the broker: the next service processes it.
func TestDrainHasADeadline(t *testing.T) {
	cfg := parse(t, "shutdown: {drain_timeout: 100ms}\n")
	service := newService(t, cfg)
	entered := make(chan struct{})
	framework.Handle(service, "orders", func(ctx context.Context, _ Order) error {
		close(entered)
		<-ctx.Done()
		return context.Cause(ctx)
	})
	publish(t, service, "orders", "1", Order{ID: "1"})
	stop := start(t, service)
	<-entered
	_ = stop() // it may say that it cut a handler short

	again := newService(t, cfg)
	runs := &counter{}
	framework.Handle(again, "orders", func(_ context.Context, order Order) error { runs.add(order.ID); return nil })
	stopAgain := start(t, again)
	require.Eventually(t, func() bool { return runs.of("1") == 1 }, patience, time.Millisecond)
	require.NoError(t, stopAgain())
}

// Names at the broker are the config's business; code knows logical names.
func TestTopicsCanHaveOtherNamesAtTheBroker(t *testing.T) {
	service := newService(t, parse(t, `topics:
  orders: {name: prod-orders, dead_letter: graveyard}
  shipments: {name: prod-shipments}
`))
	framework.Handle(service, "orders", func(_ context.Context, order Order) (Shipment, error) {
		if order.ID == "bad" {
			return Shipment{}, handlers.Permanent(errors.New("bad"))
		}
		return Shipment{OrderID: order.ID}, nil
	}, framework.To("shipments"))
	publish(t, service, "orders", "1", Order{ID: "1"})
	publish(t, service, "orders", "2", Order{ID: "bad"})
	stop := start(t, service)
	read(t, service, "prod-shipments", 1)
	require.Equal(t, "orders", read(t, service, "graveyard", 1)[0].Metadata.Get(dedup.MetaDeadTopic))
	require.NoError(t, stop())
}

// What the broker gives up is where an operator looks for it, whatever the topics are
// called.
func TestWhatTheBrokerGivesUpIsWhereTheConfigSays(t *testing.T) {
	for name, topics := range map[string]string{
		"default":                 "{}",
		"other topic":             "{orders: {dead_letter: graveyard}}",
		"renamed":                 "{orders: {name: prod-orders}}",
		"renamed, to other topic": "{orders: {name: prod-orders, dead_letter: graveyard}, graveyard: {name: prod-graveyard}}",
		"renamed letters":         "{orders.dead: {name: prod-graveyard}}",
	} {
		t.Run(name, func(t *testing.T) {
			cfg := parse(t, "consumer: {max_deliveries: 2}\ntopics: "+topics+"\n")
			service := newService(t, cfg)
			framework.Handle(service, "orders", func(context.Context, Order) error {
				return handlers.RetryAfter(time.Millisecond, errors.New("not yet"))
			})
			publish(t, service, "orders", "1", Order{ID: "1"})
			stop := start(t, service)
			operator, err := framework.NewOperator(t.Context(), cfg, slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			defer operator.Close()
			read := func() (letters []*framework.Letter, err error) {
				err = operator.Letters(t.Context(), "orders", func(letter *framework.Letter) (bool, error) {
					letters = append(letters, letter)
					return false, nil
				})
				return letters, err
			}
			require.Eventually(t, func() bool { letters, err := read(); return err == nil && len(letters) > 0 }, patience, 10*time.Millisecond)
			require.NoError(t, stop())
			letters, err := read()
			require.NoError(t, err)
			require.Len(t, letters, 1)
			require.Equal(t, "1", letters[0].EventID)
			require.Contains(t, letters[0].Reason, "handed out 2 times")
		})
	}
}

// A service that is told to stop while it starts has nothing to complain about.
func TestAStopWhileStartingIsClean(t *testing.T) {
	service := newService(t, parse(t, ""))
	framework.Handle(service, "orders", func(context.Context, Order) error { return nil })
	ctx, stop := context.WithCancel(t.Context())
	stop()
	require.NoError(t, service.Run(ctx))
}

// unreachable is a broker that went away before its subscriptions: they wait for it.
type unreachable struct {
	adapters.Broker
	reached chan struct{}
}

func (b unreachable) Subscriber(adapters.Subscription) (message.Subscriber, error) { return b, nil }

func (b unreachable) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	close(b.reached)
	<-ctx.Done()
	// Not an error: Watermill leaves a goroutine behind when a subscription fails.
	none := make(chan *message.Message)
	close(none)
	return none, nil
}

// A service that is told to stop does not wait for the broker that it subscribes to.
func TestAStopWhileSubscribingIsClean(t *testing.T) {
	service := newService(t, parse(t, ""))
	away := unreachable{service.Broker(), make(chan struct{})}
	framework.SetBroker(service, away)
	framework.Handle(service, "orders", func(context.Context, Order) error { return nil })
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ran := make(chan error, 1)
	go func() { ran <- service.Run(ctx) }()
	<-away.reached
	stop()
	select {
	case err := <-ran:
		require.NoError(t, err)
	case <-time.After(patience):
		t.Fatal("the service waits for its broker")
	}
}

// What is logged of a failure can be matched to its event.
func TestFailuresAreLoggedWithTheirEvent(t *testing.T) {
	var log written.Text
	service, err := framework.New(t.Context(), parse(t, ""), framework.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	require.NoError(t, err)
	framework.Handle(service, "orders", func(context.Context, Order) error { return errors.New("out of stock") }, framework.Name("ship"))
	publish(t, service, "orders", "order-17", Order{ID: "17"})
	stop := start(t, service)
	read(t, service, "orders.dead", 1)
	require.NoError(t, stop())
	for _, what := range []string{"handler failed, will run again", "event dead-lettered"} {
		line := regexp.MustCompile(`.*` + what + `.*`).FindString(log.String())
		for _, name := range []string{"event_id=order-17", "handler=ship", "topic=orders"} {
			require.Contains(t, line, name)
		}
	}
}

// 0 is what the config says it is: no pause.
func TestRetriesWithoutAPause(t *testing.T) {
	cfg := parse(t, "handlers: {orders: {retry: {initial_interval: 0, max_interval: 0}}}\n")
	log := &written.Text{}
	service, err := framework.New(t.Context(), cfg, framework.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	require.NoError(t, err)
	framework.Handle(service, "orders", func(context.Context, Order) error { return errors.New("boom") })
	publish(t, service, "orders", "event-1", Order{ID: "1"})
	stop := start(t, service)
	require.Len(t, read(t, service, "orders.dead", 1), 1)
	require.NoError(t, stop())
	require.Equal(t, []string{"wait=0s", "wait=0s"}, regexp.MustCompile(`wait=\S+`).FindAllString(log.String(), -1))
}

// A stop does not wait for the company that a batch waits for.
// A batch handler is given what has gathered, not one event at a time.
func TestABatchGathers(t *testing.T) {
	service := newService(t, parse(t, ""))
	sizes := make(chan int, 10)
	framework.Handle(service, "orders", func(_ context.Context, orders []Order) error {
		sizes <- len(orders)
		return nil
	}, framework.Batch(2, patience))
	publish(t, service, "orders", "1", Order{ID: "1"})
	publish(t, service, "orders", "2", Order{ID: "2"})
	stop := start(t, service)
	require.Equal(t, 2, <-sizes)
	require.NoError(t, stop())
}

func TestStopWhileABatchWaits(t *testing.T) {
	service := newService(t, parse(t, "shutdown: {drain_timeout: 100ms}\n"))
	waiting := make(chan struct{})
	framework.Handle(service, "orders", func(context.Context, []Order) error { return nil }, framework.Batch(10, time.Hour))
	service.Router().AddMiddleware(func(handle message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			close(waiting)
			return handle(msg)
		}
	})
	publish(t, service, "orders", "1", Order{ID: "1"})
	stop := start(t, service)
	<-waiting
	require.NoError(t, stop())
}
