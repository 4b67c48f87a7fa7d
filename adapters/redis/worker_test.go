package redis_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault"
)

const (
	faultGroup = "fulfilment"
	lease      = 2 * time.Second
	// answerTimeout is short: a lost answer costs its time.
	answerTimeout = 500 * time.Millisecond
)

// worker is a consumer process: a Router whose handler makes one output of every
// event. Its arguments: URL, input, output, claim (or none), the handler's time.
func worker(ctx context.Context, args []string) int {
	if err := work(ctx, args); err != nil && ctx.Err() == nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func work(ctx context.Context, args []string) (err error) {
	in, out, claim := args[1], args[2], args[3]
	takes, err := time.ParseDuration(args[4])
	if err != nil {
		return err
	}
	config, err := redis.ParseURL(args[0])
	if err != nil {
		return err
	}
	config.Lease, config.Timeout = lease, answerTimeout
	broker, err := openUntil(ctx, config)
	if err != nil {
		return err
	}
	defer broker.Close()
	subscriber, err := broker.Subscriber(adapters.Subscription{
		Group: faultGroup, Window: 100, RedeliveryDelay: 10 * time.Millisecond, DrainTimeout: 5 * time.Second, MaxDeliveries: 1000,
	})
	if err != nil {
		return err
	}
	scope := dedup.Scope{Service: in, Handler: "ship"}
	strategy := dedup.Strategy(dedup.Plain{Publisher: broker.Publisher()})
	if claim != "none" {
		strategy, err = broker.Strategy(dedup.StrategyXAck, adapters.StrategyOptions{Scope: scope, Group: faultGroup, Window: time.Hour, Claim: dedup.ClaimKind(claim)})
		if err != nil {
			return err
		}
	}
	deduplicate, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy, InFlightWait: time.Second})
	if err != nil {
		return err
	}
	router := message.NewDefaultRouter(watermill.NopLogger{})
	router.AddHandler("ship", in, subscriber, out, broker.Publisher(), func(msg *message.Message) ([]*message.Message, error) {
		copied, _ := strconv.Atoi(msg.Metadata.Get("copy"))
		_ = fault.Emit(ctx, fault.Delivery{ID: msg.UUID, Copy: copied, Attempt: adapters.DeliveryFrom(msg.Context()).Attempt})
		select {
		case <-time.After(takes):
		case <-msg.Context().Done():
			return nil, context.Cause(msg.Context())
		}
		return []*message.Message{message.NewMessage("", msg.Payload)}, nil
	}).AddMiddleware(middleware.Recoverer, deduplicate.Wrap)
	go func() { <-router.Running(); <-ctx.Done(); _ = router.Close() }() // closing one that starts would block both
	go func() { <-router.Running(); _ = fault.Ready(ctx) }()
	return router.Run(context.WithoutCancel(ctx))
}

// openUntil opens a broker, however long that takes: the network is not to be
// trusted here.
func openUntil(ctx context.Context, config redis.Config) (*redis.Broker, error) {
	config.Logger = slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelError}))
	for {
		broker, err := redis.Open(ctx, config)
		if err == nil || ctx.Err() != nil {
			return broker, err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}
