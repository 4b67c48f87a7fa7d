package kafka_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
	"github.com/hapax-go/hapax/internal/fault"
)

// order is what a worker process is told.
type order struct {
	Name, Input, Output, Group string
	// Via are topics between Input and Output, each with a stage that reads it.
	Via     []string
	Brokers []string
	// Through are the addresses of proxies to connect to instead, by broker.
	Through map[string]string
	// Plain turns deduplication off.
	Plain bool
	// Aborts is the fraction of transactions that fail before their offsets.
	Aborts float64
	// Fails is how often each event's handler fails before it succeeds.
	Fails int
	// Session is the session timeout, if not that of fast.
	Session time.Duration
	// Slow is how long a handler runs.
	Slow time.Duration
	// ServerSide: the group protocol of KIP-848.
	ServerSide bool
	MaxTime    time.Duration
}

func (o order) config() kafka.Config {
	config := fast(o.Brokers)
	config.ServerSideGroups = o.ServerSide
	config.MaxTime = max(o.MaxTime, 20*time.Millisecond)
	config.SessionTimeout = max(config.SessionTimeout, o.Session)
	// Handlers get two thirds of it to finish when partitions move. Of a key there may be two
	// events, one after the other, before others that were handed out.
	config.RebalanceTimeout = max(config.RebalanceTimeout, 5*o.Slow)
	if len(o.Through) > 0 {
		kafka.Through(&config, o.Through)
		// A connection lives for a second: the group must outlast it.
		config.SessionTimeout, config.TransactionTimeout = 10*time.Second, 6*time.Second
	}
	return config
}

// group is that of a stage, counted from 0.
func (o order) group(stage int) string {
	if stage == 0 {
		return o.Group
	}
	return fmt.Sprint(o.Group, "-", stage)
}

// service runs a Router around a handler that passes its event on, until ctx ends.
func service(ctx context.Context, o order, delivered func(fault.Delivery)) error {
	broker, err := kafka.Open(ctx, o.config())
	if err != nil {
		return err
	}
	defer func() { _ = broker.Close() }()
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 10 * time.Second}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	topics := append(append([]string{o.Input}, o.Via...), o.Output)
	for stage := range len(topics) - 1 {
		if err := o.add(router, broker, stage, topics[stage], topics[stage+1], delivered); err != nil {
			return err
		}
	}
	go func() {
		<-router.Running()
		_ = fault.Ready(ctx)
	}()
	err = router.Run(ctx)
	return errors.Join(err, router.Close())
}

// add adds one stage to a Router.
func (o order) add(router *message.Router, broker *kafka.Broker, stage int, input, output string, delivered func(fault.Delivery)) error {
	group := o.group(stage)
	scope := dedup.Scope{Service: "test", Handler: group}
	strategy := dedup.Strategy(dedup.Plain{Publisher: broker.Publisher()})
	var err error
	if !o.Plain {
		strategy, err = broker.Strategy(dedup.StrategyTransaction, adapters.StrategyOptions{Scope: scope, Group: group, Window: time.Hour})
		if err != nil {
			return err
		}
	}
	once, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy})
	if err != nil {
		return err
	}
	subscriber, err := broker.Subscriber(adapters.Subscription{
		Group: group, Window: 200, RedeliveryDelay: 10 * time.Millisecond, DrainTimeout: max(5*time.Second, 3*o.Slow), MaxDeliveries: -1,
	})
	if err != nil {
		return err
	}
	var failures sync.Map // by event ID
	router.AddHandler(group, input, subscriber, output, broker.Publisher(), func(msg *message.Message) ([]*message.Message, error) {
		var event fault.Event
		if err := json.Unmarshal(msg.Payload, &event); err != nil {
			return nil, err
		}
		copied := 0
		if msg.Metadata.Get("copy") == "1" {
			copied = 1
		}
		if stage == 0 {
			delivered(fault.Delivery{ID: event.ID, Copy: copied, Consumer: o.Name})
		}
		if o.Slow > 0 {
			select {
			case <-time.After(o.Slow):
			case <-msg.Context().Done():
				return nil, msg.Context().Err()
			}
		}
		if tries, _ := failures.LoadOrStore(event.ID, new(atomic.Int64)); tries.(*atomic.Int64).Add(1) <= int64(o.Fails) {
			return nil, errors.New("not yet")
		}
		effect, err := json.Marshal(fault.Effect{ID: event.ID, Key: event.Key, Seq: event.Seq, Consumer: o.Name})
		return []*message.Message{message.NewMessage("", effect)}, err
	}).AddMiddleware(once.Wrap)
	return nil
}

// worker is the child process.
func worker(ctx context.Context, args []string) int {
	var o order
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		fmt.Println(err)
		return 2
	}
	if o.Aborts > 0 {
		failpoint.Arm(failpoint.AfterPublish, func() error {
			if rand.Float64() < o.Aborts {
				return errors.New("aborted at random")
			}
			return nil
		})
	}
	err := service(ctx, o, func(d fault.Delivery) { _ = fault.Emit(ctx, d) })
	if err != nil && ctx.Err() == nil {
		fmt.Println(err)
		return 1
	}
	return 0
}
