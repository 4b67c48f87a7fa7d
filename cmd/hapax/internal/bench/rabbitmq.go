package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/sync/errgroup"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/rabbitmq"
	"github.com/hapax-go/hapax/adapters/rabbitmq/plain"
	"github.com/hapax-go/hapax/adapters/redis"
	redisledger "github.com/hapax-go/hapax/adapters/redis/ledger"
	redisplain "github.com/hapax-go/hapax/adapters/redis/plain"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/coalesce"
	"github.com/hapax-go/hapax/internal/servers"
)

// rabbitMQBrokers measures RabbitMQ, where there is one: that of `make servers`, or
// of HAPAX_TEST_RABBITMQ. Every round has queues of its own, filled before the clock
// starts.
func rabbitMQBrokers() []Broker {
	server, found := servers.Find(servers.RabbitMQ)
	if !found {
		return nil
	}
	open := func(lane rabbitLane) func(context.Context, Env) (Lane, error) {
		return func(_ context.Context, env Env) (Lane, error) {
			lane := lane
			lane.env, lane.server.URL = env, server.URL
			return &lane, nil
		}
	}
	variants := []Variant{
		{Name: Raw, Open: open(rabbitLane{consume: (*rabbitLane).byHand})},
		{Name: Watermill, Open: open(rabbitLane{consume: (*rabbitLane).official})},
		{Name: Hapax, Open: open(rabbitLane{consume: (*rabbitLane).hapax})},
	}
	if store, found := servers.Find(servers.Redis); found {
		variants = append(variants, Variant{Name: HapaxDedup, Once: true, Open: open(rabbitLane{consume: (*rabbitLane).hapax, ledger: store.Hosts[0]})})
	}
	return []Broker{{
		Name:     rabbitmq.Name,
		Messages: 10_000,
		Variants: variants,
		Notes: []string{
			"rabbitmq: quorum queues on both sides; but for watermill, every output is confirmed before its input is acknowledged. raw is a loop by hand on amqp091-go: publishes and confirms overlap, one acknowledgement for 64. watermill is the official watermill-amqp in the same Router, prefetch 256, confirms off as by default: outputs can get lost. hapax-dedup is message-id with its ledger in Redis, and missing where there is no Redis.",
		},
	}}
}

// rabbitLane runs one way to consume.
type rabbitLane struct {
	env     Env
	server  plain.Server
	ledger  string // address of Redis; empty: no deduplication
	consume func(*rabbitLane, context.Context, *rabbitmq.Broker, *watch, Load, *Meter) error
}

const (
	rabbitIn  = topic + "_" + topic
	rabbitOut = outputs + "_bench"
)

// Close implements Lane.
func (l *rabbitLane) Close() error { return nil }

// Round implements Lane.
func (l *rabbitLane) Round(ctx context.Context, load Load, meter *Meter) (counts Counts, err error) {
	if err := errors.Join(l.server.Declare(topic, rabbitIn), l.server.Declare(outputs, rabbitOut)); err != nil {
		return counts, err
	}
	broker, err := rabbitmq.Open(ctx, rabbitmq.Config{URL: l.server.URL, Logger: quiet})
	if err != nil {
		return counts, err
	}
	defer func() { err = errors.Join(err, broker.Close(), l.server.Delete(rabbitIn, rabbitOut)) }()
	w := &watch{produce: l.env.Produce}
	if load.pace == nil {
		if err := publish(ctx, broker.Publisher(), load, l.env.Payload); err != nil {
			return counts, err
		}
	}
	if err := l.consume(l, ctx, broker, w, load, meter); err != nil {
		return counts, w.because(err)
	}
	counts.Handled = int(w.handled.Load())
	err = l.countOutputs(ctx, &counts)
	return counts, err
}

// countOutputs waits for outputs that are on their way: without confirms, nobody
// knows that they have arrived.
func (l *rabbitLane) countOutputs(ctx context.Context, counts *Counts) (err error) {
	for deadline := time.Now().Add(10 * time.Second); ; {
		if counts.Outputs, err = l.server.Length(rabbitOut); err != nil || ctx.Err() != nil {
			return err
		}
		if !l.env.Produce || counts.Outputs >= counts.Handled || time.Now().After(deadline) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (l *rabbitLane) hapax(ctx context.Context, broker *rabbitmq.Broker, w *watch, load Load, meter *Meter) (failure error) {
	// No limit, because the queue that Declare has made has none.
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: topic, Window: l.env.InFlight, MaxDeliveries: -1})
	if err != nil {
		return err
	}
	strategy := dedup.Strategy(dedup.Plain{Publisher: broker.Publisher()})
	if l.ledger != "" {
		client, err := redis.Connect(ctx, redis.Config{Addresses: []string{l.ledger}})
		if err != nil {
			return err
		}
		defer client.Close()
		// Marks of a round of their own, because event IDs are the same in every run.
		prefix := fmt.Sprintf("hapax:bench:%x", dedup.NextToken())
		store, err := redisledger.New(client, redisledger.Config{Window: time.Hour, Prefix: prefix})
		if err != nil {
			return err
		}
		defer func() { failure = errors.Join(failure, redisplain.Server{Address: l.ledger}.Delete(ctx, prefix+":*")) }()
		ledger := coalesce.New(store)
		defer ledger.Close()
		strategy = dedup.NewLedgerStrategy(ledger, broker.Publisher(), dedup.LedgerOptions{Logger: quiet})
	}
	return l.router(ctx, route{subscriber: subscriber, publisher: broker.Publisher(), strategy: strategy, watch: w}, broker, load, meter)
}

func (l *rabbitLane) official(ctx context.Context, broker *rabbitmq.Broker, w *watch, load Load, meter *Meter) (err error) {
	subscriber, err := l.server.Subscriber(topic, 256)
	if err != nil {
		return err
	}
	publisher, err := l.server.Publisher()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, subscriber.Close(), publisher.Close()) }()
	return l.router(ctx, route{subscriber: subscriber, publisher: publisher, watch: w}, broker, load, meter)
}

// router measures a Router, from its start until the last message is handled.
func (l *rabbitLane) router(ctx context.Context, r route, broker *rabbitmq.Broker, load Load, meter *Meter) error {
	r.watch.finish = make(chan struct{})
	meter.Start()
	r.watch.begin(load)
	router, err := startRouter(ctx, r)
	if err != nil {
		return err
	}
	if load.pace != nil {
		err = publish(ctx, broker.Publisher(), load, l.env.Payload)
	}
	if err == nil {
		select {
		case <-r.watch.finish:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	meter.Stop()
	return errors.Join(err, router.Close())
}

func (l *rabbitLane) byHand(ctx context.Context, broker *rabbitmq.Broker, w *watch, load Load, meter *Meter) error {
	loop := plain.Loop{
		Server: l.server, In: rabbitIn, Out: outputs, Prefetch: l.env.InFlight, Batch: 64, Produce: l.env.Produce, Total: load.Deliveries(),
		Handle: func(uuid string) { _, _ = w.handle(message.NewMessage(uuid, nil)) },
		Done:   func(uuid string) { load.pace.settled(indexOf(uuid)) },
	}
	meter.Start()
	w.begin(load)
	both, shared := errgroup.WithContext(ctx)
	if load.pace != nil {
		both.Go(func() error { return publish(shared, broker.Publisher(), load, l.env.Payload) })
	}
	both.Go(func() error { return loop.Run(shared) })
	err := both.Wait()
	meter.Stop()
	return err
}
