package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/sync/errgroup"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/adapters/redis/plain"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/servers"
)

// redisBrokers measures Redis, where there is a server: that of `make servers`, or of
// HAPAX_TEST_REDIS. Every round has streams of its own, filled before the clock
// starts.
func redisBrokers() []Broker {
	server, found := servers.Find(servers.Redis)
	if !found {
		return nil
	}
	open := func(lane redisLane) func(context.Context, Env) (Lane, error) {
		return func(_ context.Context, env Env) (Lane, error) {
			lane := lane
			lane.env, lane.server.Address = env, server.Hosts[0]
			return &lane, nil
		}
	}
	return []Broker{{
		Name:     redis.Name,
		Messages: 40_000,
		Variants: []Variant{
			{Name: Raw, Open: open(redisLane{consume: (*redisLane).byHand})},
			{Name: Watermill, Open: open(redisLane{consume: (*redisLane).official})},
			{Name: Hapax, Open: open(redisLane{consume: (*redisLane).hapax, strategy: dedup.StrategyNone})},
			{Name: HapaxDedup, Once: true, Open: open(redisLane{consume: (*redisLane).hapax, strategy: dedup.StrategyXAck})},
		},
		Notes: []string{
			"redis: raw is a loop by hand on go-redis: XREADGROUP of 200, then one pipeline of an XADD for each output and one XACK. watermill is the official watermill-redisstream in the same Router. hapax-dedup marks, publishes and acknowledges in one script.",
		},
	}}
}

// redisBatch is how many messages the loop by hand reads at once.
const redisBatch = 200

// redisLane runs one way to consume.
type redisLane struct {
	env      Env
	server   plain.Server
	strategy string
	consume  func(*redisLane, context.Context, *redis.Broker, *watch, Load, *Meter) error
}

// Close implements Lane.
func (l *redisLane) Close() error { return nil }

// Round implements Lane.
func (l *redisLane) Round(ctx context.Context, load Load, meter *Meter) (counts Counts, err error) {
	windows := "hapax:windows:*:" + topic // under which we have marked
	if err := l.server.Delete(ctx, topic, outputs, windows); err != nil {
		return counts, fmt.Errorf("delete streams: %w", err)
	}
	broker, err := redis.Open(ctx, redis.Config{Addresses: []string{l.server.Address}, Logger: quiet})
	if err != nil {
		return counts, err
	}
	defer func() {
		err = errors.Join(err, broker.Close(), l.server.Delete(ctx, topic, outputs, windows, fmt.Sprintf("hapax:marks:ids:%d*", redisWindow.Milliseconds())))
	}()
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
	counts.Outputs, err = l.server.Length(ctx, outputs)
	return counts, err
}

// redisWindow differs from run to run, because event IDs do not, and the marks of a
// window can be removed without touching those of others.
var redisWindow = time.Hour + time.Duration(time.Now().UnixMilli()%(24*3600*1000))*time.Millisecond

func (l *redisLane) hapax(ctx context.Context, broker *redis.Broker, w *watch, load Load, meter *Meter) error {
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: topic, Window: l.env.InFlight})
	if err != nil {
		return err
	}
	strategy := dedup.Strategy(dedup.Plain{Publisher: broker.Publisher()})
	if l.strategy != dedup.StrategyNone {
		strategy, err = broker.Strategy(l.strategy, adapters.StrategyOptions{Scope: scope, Group: topic, Window: redisWindow})
		if err != nil {
			return fmt.Errorf("open strategy: %w", err)
		}
	}
	return l.router(ctx, route{subscriber: subscriber, publisher: broker.Publisher(), strategy: strategy, watch: w}, broker, load, meter)
}

func (l *redisLane) official(ctx context.Context, broker *redis.Broker, w *watch, load Load, meter *Meter) (err error) {
	subscriber, err := l.server.Subscriber(topic, time.Minute)
	if err != nil {
		return err
	}
	publisher, err := l.server.Publisher()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, subscriber.Close(), publisher.Close()) }() // the Router has no publisher in consume
	return l.router(ctx, route{subscriber: subscriber, publisher: publisher, watch: w}, broker, load, meter)
}

// router measures a Router, from its start until its last acknowledgement.
func (l *redisLane) router(ctx context.Context, r route, broker *redis.Broker, load Load, meter *Meter) error {
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
	meter.Stop() // closing waits for the last read to time out, in both adapters
	return errors.Join(err, router.Close())
}

func (l *redisLane) byHand(ctx context.Context, broker *redis.Broker, w *watch, load Load, meter *Meter) error {
	loop := plain.Loop{
		Server: l.server, In: topic, Out: outputs, Group: topic, Batch: redisBatch, Produce: l.env.Produce, Total: load.Deliveries(),
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
