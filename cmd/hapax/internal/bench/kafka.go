package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/sync/errgroup"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/adapters/kafka/plain"
	"github.com/hapax-go/hapax/adapters/kafka/raw"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/servers"
)

// kafkaBrokers measures Kafka, where there is one: that of `make servers`, or of
// HAPAX_TEST_KAFKA. Every round has topics of its own, filled before the clock
// starts; the clock starts with the first message handled, because joining a group
// takes longer than most of a round.
func kafkaBrokers() []Broker {
	server, found := servers.Find(servers.Kafka)
	if !found {
		return nil
	}
	open := func(lane kafkaLane) func(context.Context, Env) (Lane, error) {
		return func(_ context.Context, env Env) (Lane, error) {
			lane := lane
			lane.env, lane.brokers = env, server.Hosts
			return &lane, nil
		}
	}
	return []Broker{{
		Name:     kafka.Name,
		Messages: 60_000,
		Variants: []Variant{
			{Name: Raw, Open: open(kafkaLane{consume: (*kafkaLane).byHand})},
			{Name: Watermill, Open: open(kafkaLane{consume: (*kafkaLane).official})},
			{Name: Hapax, Open: open(kafkaLane{consume: (*kafkaLane).hapax, strategy: dedup.StrategyNone})},
			{Name: HapaxDedup, Once: true, Open: open(kafkaLane{consume: (*kafkaLane).hapax, strategy: dedup.StrategyTransaction})},
		},
		Notes: []string{
			fmt.Sprintf("kafka: %d partitions. raw is franz-go's own transactional loop: poll, begin, produce, end, with up to %d records a transaction, as hapax-dedup has. watermill is the official watermill-kafka in the same Router, without transactions. hapax is at least once; hapax-dedup commits outputs, offsets and processed IDs in transactions.", kafkaPartitions, kafkaBatch),
		},
	}}
}

const (
	kafkaPartitions = 4
	kafkaBatch      = 500
)

// kafkaLane runs one way to consume.
type kafkaLane struct {
	env      Env
	brokers  []string
	strategy string
	consume  func(*kafkaLane, context.Context, *kafka.Broker, *watch, Load, *Meter) error
}

// Close implements Lane.
func (l *kafkaLane) Close() error { return nil }

// Round implements Lane.
func (l *kafkaLane) Round(ctx context.Context, load Load, meter *Meter) (counts Counts, err error) {
	log := kafka.IDLogName(topic, topic)
	if err := raw.Reset(ctx, l.brokers, kafkaPartitions, []string{topic, outputs}, log); err != nil {
		return counts, err
	}
	defer func() {
		err = errors.Join(err, raw.Reset(context.WithoutCancel(ctx), l.brokers, 0, nil, topic, outputs, log))
	}()
	broker, err := kafka.Open(ctx, kafka.Config{Brokers: l.brokers, MaxRecords: kafkaBatch, Logger: quiet})
	if err != nil {
		return counts, err
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
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
	values, err := raw.Values(ctx, l.brokers, outputs)
	counts.Outputs = len(values)
	return counts, err
}

func (l *kafkaLane) hapax(ctx context.Context, broker *kafka.Broker, w *watch, load Load, meter *Meter) error {
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: topic, Window: l.env.InFlight})
	if err != nil {
		return err
	}
	strategy := dedup.Strategy(dedup.Plain{Publisher: broker.Publisher()})
	if l.strategy != dedup.StrategyNone {
		strategy, err = broker.Strategy(l.strategy, adapters.StrategyOptions{Scope: scope, Group: topic, Window: time.Hour})
		if err != nil {
			return fmt.Errorf("open strategy: %w", err)
		}
	}
	return l.router(ctx, route{subscriber: subscriber, publisher: broker.Publisher(), strategy: strategy, watch: w}, broker, load, meter)
}

func (l *kafkaLane) official(ctx context.Context, broker *kafka.Broker, w *watch, load Load, meter *Meter) (err error) {
	subscriber, err := plain.Subscriber(l.brokers, topic, 45*time.Second)
	if err != nil {
		return err
	}
	publisher, err := plain.Publisher(l.brokers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, subscriber.Close(), publisher.Close()) }()
	return l.router(ctx, route{subscriber: subscriber, publisher: publisher, watch: w}, broker, load, meter)
}

// router measures a Router from its first message to its last.
func (l *kafkaLane) router(ctx context.Context, r route, broker *kafka.Broker, load Load, meter *Meter) error {
	var first sync.Once
	r.handle = func(msg *message.Message) ([]*message.Message, error) {
		first.Do(meter.Start)
		return r.watch.handle(msg)
	}
	r.watch.finish = make(chan struct{})
	r.watch.begin(load)
	router, err := startRouter(ctx, r)
	if err != nil {
		return err
	}
	if load.pace != nil {
		load.pace.begin()
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

// byHand measures franz-go's loop.
func (l *kafkaLane) byHand(ctx context.Context, broker *kafka.Broker, w *watch, load Load, meter *Meter) error {
	var first sync.Once
	joined := make(chan struct{})
	loop := raw.Loop{
		Brokers: l.brokers, Input: topic, Output: outputs, Group: topic, Batch: kafkaBatch, Produce: l.env.Produce, Total: load.Deliveries(),
		Ready:  func() { close(joined) },
		Handle: func(string) { first.Do(meter.Start) },
		Done: func(uuid string) { // only what was committed counts: an aborted batch comes again
			w.handled.Add(1)
			load.pace.settled(indexOf(uuid))
		},
	}
	w.begin(load)
	both, shared := errgroup.WithContext(ctx)
	if load.pace != nil {
		both.Go(func() error {
			select {
			case <-joined:
				load.pace.begin()
				return publish(shared, broker.Publisher(), load, l.env.Payload)
			case <-shared.Done():
				return context.Cause(shared)
			}
		})
	}
	both.Go(func() error { return loop.Run(shared) })
	err := both.Wait()
	meter.Stop()
	return err
}
