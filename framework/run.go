package framework

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/handlers"
)

// Run checks the service, takes messages until ctx ends, then drains: nothing new
// is taken, what is being handled has shutdown.drain_timeout to finish, and goes
// back to the broker otherwise. It returns nil after a clean drain. The service
// is closed in any case.
func (s *Service) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.start(ctx); err != nil {
		return unlessStopped(ctx, s.logger, err)
	}
	s.measure()
	stopAdmin, err := s.serveAdmin()
	if err != nil {
		return err
	}
	defer stopAdmin()

	// The Router gets a context of its own: cancelling it would cut handlers
	// short, where Close lets them finish.
	routing := make(chan error, 1)
	routed, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	go func() { routing <- s.router.Run(routed) }()
	select {
	case <-s.router.Running():
	case err := <-routing: // it could not subscribe, or every subscription ended
		return fmt.Errorf("run router: %w", errors.Join(err, errStopped))
	case <-ctx.Done():
		return s.stopSubscribing(ctx, routing, cut)
	}
	s.health.ready.Store(true)
	s.logger.Info("ready", "service", s.config.Service, "broker", s.config.Broker, "handlers", len(s.registrations))

	select {
	case err := <-routing:
		s.health.ready.Store(false)
		return fmt.Errorf("run router: %w", errors.Join(err, errStopped))
	case <-ctx.Done():
	}
	s.health.ready.Store(false)
	return s.drain(routing)
}

func (s *Service) drain(routing <-chan error) error {
	started := time.Now()
	s.logger.Info("draining", "deadline", s.config.Shutdown.DrainTimeout.String())
	err := s.router.Close()
	<-routing
	s.logger.Info("drained", "took", time.Since(started).Round(time.Millisecond))
	return err
}

// stopSubscribing ends a Router that is not running yet. It may subscribe to a broker that
// is away: after a moment that is cut short.
func (s *Service) stopSubscribing(ctx context.Context, routing <-chan error, cut context.CancelFunc) error {
	patience := time.AfterFunc(closeGrace, func() {
		if !s.router.IsRunning() {
			cut()
		}
	})
	defer patience.Stop()
	select {
	case err := <-routing:
		return unlessStopped(ctx, s.logger, fmt.Errorf("run router: %w", errors.Join(err, errStopped)))
	case <-s.router.Running():
		return s.drain(routing)
	}
}

// unlessStopped is what a start that failed comes to. If ctx ended meanwhile that
// is nothing: what is told to stop before it took anything has done so.
func unlessStopped(ctx context.Context, logger *slog.Logger, err error) error {
	if ctx.Err() == nil {
		return err
	}
	logger.Info("stopped while starting", "error", err)
	return nil
}

// start checks the service and mounts its handlers.
func (s *Service) start(ctx context.Context) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	s.wakeRelay = s.wakeEmbedded
	for _, r := range s.registrations {
		if err := s.mount(ctx, r); err != nil {
			return fmt.Errorf("%s: %w", r.label(), err)
		}
	}
	return s.embedRelay(ctx)
}

var errStopped = errors.New("the router stopped by itself")

// check reports everything that is wrong before the first message is taken.
func (s *Service) check(ctx context.Context) error {
	var errs []error
	if len(s.registrations) == 0 {
		errs = append(errs, errors.New("service has no handlers: call framework.Handle before Run"))
	}
	names := map[string]*registration{}
	for _, r := range s.registrations {
		if first := names[r.name]; first != nil {
			errs = append(errs, fmt.Errorf("handler name %q is used for topic %q and topic %q: give one of them framework.Name", r.name, first.topic, r.topic))
		}
		names[r.name] = r
		if r.topic == "" {
			errs = append(errs, fmt.Errorf("%s: the topic is empty", r.label()))
		}
		for what, text := range map[string]string{"name": r.name, "topic": r.topic} {
			if !utf8.ValidString(text) { // metrics have it as a label
				errs = append(errs, fmt.Errorf("%s: the %s is not UTF-8: choose another", r.label(), what))
			}
		}
		typed, err := handlers.Adapt(r.fn, r.options)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.label(), err))
		}
		if r.to == "" && !mayHaveTopic(typed.Output) && len(s.inner) == 0 { // a middleware of Use may name one
			errs = append(errs, fmt.Errorf("%s: it returns %s, but has no topic for it: add framework.To(topic), or return only an error and send with handlers.Emit", r.label(), typed.Output))
		}
		if limit := s.config.RabbitMQ.ConsumerTimeout; s.config.Broker == "rabbitmq" && r.timeout >= limit.Std() {
			errs = append(errs, fmt.Errorf("%s: framework.Timeout is %s, expected less than rabbitmq.consumer_timeout (%s): the server would close the channel first", r.label(), config.Duration(r.timeout), limit))
		}
	}
	errs = append(errs, s.config.CheckHandlers(slices.Collect(maps.Keys(names))))
	for _, unused := range s.config.UnusedTopics(s.topicsInUse()) {
		s.logger.Warn("a topic of the config may be misspelt, unless it is published to in another way", "problem", unused.Error())
	}
	errs = append(errs, judge(append(examine(ctx, s.config, s.broker, s.handlerTopics()), s.checkOutputs(ctx)...), s.config.Allow, s.logger))
	return errors.Join(errs...)
}

// mayHaveTopic reports whether what a handler returns can say itself where it goes, as a
// message can. nil: it returns nothing.
func mayHaveTopic(output reflect.Type) bool {
	return output == nil || output.Kind() == reflect.Interface || output == reflect.TypeFor[*message.Message]()
}

// topicsInUse lists the logical topics that handlers read or return values to, and those
// of their dead letters.
func (s *Service) topicsInUse() (topics []string) {
	for _, r := range s.registrations {
		topics = append(topics, r.topic, letterTopic(s.config, r.topic))
		if r.to != "" {
			topics = append(topics, r.to)
		}
	}
	return topics
}
