package framework

import (
	"context"
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/handlers"
)

// mount adds a handler to the Router. From the outside in:
//
//	telemetry → dead letter → retry → identify, claim, commit → recover → Use → timeout → fn
//
// Retries are outside of the claim, so that every attempt starts from nothing:
// no outputs, no SQL, no mark of the one before.
func (s *Service) mount(ctx context.Context, r *registration) error {
	scope := dedup.Scope{Service: s.config.Service, Handler: r.name}
	settings := s.config.Handler(r.name)
	group := scope.Service + "." + scope.Handler

	r.options.Logger = s.logger
	typed, err := handlers.Adapt(r.fn, r.options)
	if err != nil {
		return err
	}
	strategy, err := s.strategy(ctx, r.topic, scope, group)
	if err != nil {
		return err
	}
	if typed, err = s.journaled(ctx, r.topic, r.name, typed); err != nil {
		return err
	}
	names := s.topicNames()
	if len(names) > 0 {
		strategy = namedStrategy{strategy, names}
	}
	telemetry := s.telemetry(r.name, r.topic)
	strategy = observedStrategy{strategy, telemetry}
	identity := s.identity(r)
	once, err := dedup.New(dedup.Config{
		Scope: scope, Strategy: strategy, Identity: identity,
		OnConflict:   dedup.ConflictPolicy(s.config.Dedup.Conflict),
		InFlightWait: orNever(s.config.Dedup.InFlightWait),
		Observer:     telemetry,
	})
	if err != nil {
		return err
	}
	letters := letterTopic(s.config, r.topic)
	subscriber, err := s.broker.Subscriber(adapters.Subscription{
		Group:           group,
		Window:          settings.Consumer.Window,
		Ordering:        adapters.Ordering(settings.Consumer.Ordering),
		MaxDeliveries:   settings.Consumer.MaxDeliveries,
		DeadLetter:      names.of(letters),
		RedeliveryDelay: orNever(settings.Consumer.RedeliveryDelay),
		DrainTimeout:    orNever(s.config.Shutdown.DrainTimeout),
	})
	if err != nil {
		return err
	}
	deadLetter := handlers.DeadLetter{
		Service: scope.Service, Handler: scope.Handler, Topic: r.topic,
		To:       letters,
		Identity: identity, Bury: telemetry.bury(once.DeadLetter), Logger: s.logger,
	}
	retry := handlers.Retry{
		MaxAttempts:     settings.Retry.MaxAttempts,
		InitialInterval: orNever(settings.Retry.InitialInterval),
		MaxInterval:     orNever(settings.Retry.MaxInterval),
		Multiplier:      settings.Retry.Multiplier,
		Handler:         r.name,
		Topic:           r.topic,
		Identity:        identity,
		Logger:          s.logger,
		OnRetry:         telemetry.retried,
	}
	timeout := r.timeout
	if timeout == 0 {
		timeout = settings.Consumer.HandlerTimeout.Std()
	}
	process := s.once(once, telemetry.run(typed), r.batch, timeout)
	s.router.AddHandler(r.name, r.topic, namedSubscriber{subscriber, names}, r.to, unused{},
		telemetry.delivery(deadLetter.Middleware(retry.Middleware(process))))
	return nil
}

// once is the inside of the retry: one attempt to process an event.
func (s *Service) once(once *dedup.Middleware, typed handlers.Handler, batching dedup.Batching, timeout time.Duration) message.HandlerFunc {
	if typed.Batch != nil {
		return once.Batch(withDeadline(typed.Batch, timeout), batching)
	}
	handle := handlers.Timeout(timeout)(typed.Single)
	for i := len(s.inner) - 1; i >= 0; i-- {
		handle = s.inner[i](handle)
	}
	return once.Wrap(handlers.Recover(handle))
}

// withDeadline is handlers.Timeout for a batch, whose context is that of its
// first message.
func withDeadline(handle dedup.BatchFunc, timeout time.Duration) dedup.BatchFunc {
	return func(msgs []*message.Message) (outputs []*message.Message, err error) {
		first := func(*message.Message) ([]*message.Message, error) { return handle(msgs) }
		return handlers.Timeout(timeout)(first)(msgs[0])
	}
}

func (s *Service) identity(r *registration) dedup.Identity {
	if r.ident != nil {
		return *r.ident
	}
	return identityOf(s.config)
}

// identityOf is the config's dedup.id.
func identityOf(cfg *config.Config) dedup.Identity {
	id := cfg.Dedup.ID
	return dedup.Identity{Pointer: id.Pointer, IgnoreUUID: id.IgnoreUUID, ContentHash: id.ContentHash}
}

// orNever turns the config's 0, "not at all", into the packages' negative, whose
// 0 means "the default".
func orNever(d config.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d.Std()
}

// unused is the publisher that the Router has for a handler. Outputs are
// published inside the commit, so none ever reaches it; one that does would have
// been marked already, and is refused rather than sent too late (I1).
type unused struct{}

var errTooLate = errors.New("an output reached the Router after the commit: add middlewares that make messages with Service.Use, not to the Router")

// Publish implements message.Publisher.
func (unused) Publish(string, ...*message.Message) error { return errTooLate }

// Close implements message.Publisher.
func (unused) Close() error { return nil }
