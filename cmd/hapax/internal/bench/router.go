package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"github.com/hapax-go/hapax/dedup"
)

const (
	topic   = "hapax-bench"
	outputs = "hapax-bench-out"
)

var scope = dedup.Scope{Service: "bench", Handler: topic}

// route is a Router with one handler.
type route struct {
	subscriber message.Subscriber
	publisher  message.Publisher
	// strategy deduplicates; nil: Watermill alone.
	strategy dedup.Strategy
	watch    *watch
	// handle is the handler; nil: that of watch.
	handle message.HandlerFunc
}

// running is a Router that runs.
type running struct {
	router   *message.Router
	strategy dedup.Strategy
	ended    chan struct{}
	err      error // of Run, once ended
}

// startRouter returns when the Router has subscribed. All Routers have the same
// middlewares, those a careful service has; with a strategy Hapax's is the
// innermost, so that every retry claims anew, as in the framework.
func startRouter(ctx context.Context, r route) (*running, error) {
	router := message.NewDefaultRouter(watermill.NopLogger{})
	handle := r.handle
	if handle == nil {
		handle = r.watch.handle
	}
	router.AddMiddleware(r.watch.middleware, middleware.Recoverer, middleware.CorrelationID,
		middleware.Retry{MaxRetries: 3, InitialInterval: 100 * time.Millisecond}.Middleware)
	if r.strategy != nil {
		deduplicate, err := dedup.New(dedup.Config{Scope: scope, Strategy: r.strategy})
		if err != nil {
			return nil, err
		}
		router.AddMiddleware(deduplicate.Wrap)
	}
	if r.watch.publisher = nil; r.watch.produce {
		publisher := r.publisher
		if r.strategy == nil {
			r.watch.publisher = &countingPublisher{Publisher: publisher, watch: r.watch}
			publisher = r.watch.publisher
		}
		router.AddHandler(topic, topic, r.subscriber, outputs, publisher, handle)
	} else {
		router.AddConsumerHandler(topic, topic, r.subscriber, func(msg *message.Message) error {
			_, err := handle(msg)
			return err
		})
	}
	started := &running{router: router, strategy: r.strategy, ended: make(chan struct{})}
	go func() {
		defer close(started.ended)
		started.err = router.Run(ctx)
	}()
	select {
	case <-router.Running():
		return started, nil
	case <-started.ended: // it could not subscribe
		return nil, started.Close()
	}
}

// Close ends the subscription, waits for what is in flight, and stops the Router.
func (r *running) Close() error {
	err := r.router.Close()
	<-r.ended
	if closer, ok := r.strategy.(io.Closer); ok {
		err = errors.Join(err, closer.Close())
	}
	if err = errors.Join(err, r.err); err != nil {
		return fmt.Errorf("run router: %w", err)
	}
	return nil
}

var quiet = slog.New(slog.DiscardHandler)
