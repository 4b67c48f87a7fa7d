package framework

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/outbox/relay"
)

// Service is a consumer service: handlers on topics, one broker, one Watermill
// Router. Register handlers between New and Run.
type Service struct {
	config *config.Config
	logger *slog.Logger
	broker adapters.Broker
	router *message.Router

	registrations []*registration
	inner         []message.HandlerMiddleware
	database      *sqlDatabase                   // of the sql block; nil until a handler needs it
	ledgerDB      *sqlDatabase                   // of dedup.ledger.dsn, when that is another one
	ledgers       map[time.Duration]dedup.Ledger // by window
	wakeRelay     func()                         // tells a relay of this process that there are outputs; may be nil
	relay         atomic.Pointer[relay.Relay]
	closers       []func() error
	metrics       *metrics
	tracing       *tracing
	duplicates    *DuplicateLog
	health        health
}

// Option configures New.
type Option func(*Service)

// WithLogger sets the logger. Default: slog to standard error in the format and
// level of the config's log block.
func WithLogger(logger *slog.Logger) Option {
	return func(s *Service) { s.logger = logger }
}

// New connects to the configured broker and returns a service without handlers.
// Run, or Close, releases it. The error names the config key to change.
func New(ctx context.Context, cfg *config.Config, options ...Option) (*Service, error) {
	s := &Service{config: cfg, metrics: newMetrics(), duplicates: newDuplicateLog(time.Now())}
	for _, option := range options {
		option(s)
	}
	if s.logger == nil {
		s.logger = newLogger(cfg.Log)
	}
	var err error
	if s.tracing == nil {
		var end func() error
		if s.tracing, end, err = openTracing(ctx, cfg); err != nil {
			return nil, err
		}
		s.closers = append(s.closers, end)
	}
	if s.broker, err = OpenBroker(ctx, cfg, s.logger); err != nil {
		return nil, errors.Join(fmt.Errorf("open broker %s: %w", cfg.Broker, err), s.Close())
	}
	s.closers = append(s.closers, s.broker.Close)
	s.router, err = message.NewRouter(
		message.RouterConfig{CloseTimeout: time.Duration(cfg.Shutdown.DrainTimeout) + closeGrace},
		watermill.NewSlogLogger(s.logger),
	)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// closeGrace is what the Router gets beyond the drain deadline: at the deadline
// adapters cancel what still runs, and that needs a moment to return. It is also what a
// stop leaves to subscriptions that are just being made.
const closeGrace = 5 * time.Second

// Router is the Watermill Router underneath. Middlewares added to it run outside
// of deduplication: once per delivery, duplicates included, and without the
// handler's outputs. Use is for those that run inside.
func (s *Service) Router() *message.Router { return s.router }

// Use adds Watermill middlewares that run inside of deduplication: once for each
// attempt to process an event, around the handler, with its outputs. Batch
// handlers, which have no single message to wrap, run without them.
func (s *Service) Use(middlewares ...message.HandlerMiddleware) {
	s.inner = append(s.inner, middlewares...)
}

// Publisher publishes to the service's broker from outside of handlers. Inside
// of a handler return outputs or call handlers.Emit instead: they commit with
// the event.
func (s *Service) Publisher() message.Publisher {
	return tracedPublisher{namedPublisher{s.broker.Publisher(), s.topicNames()}, s.tracing}
}

// Config is the configuration in force.
func (s *Service) Config() *config.Config { return s.config }

// Broker is the connected broker.
func (s *Service) Broker() adapters.Broker { return s.broker }

// Logger is the service's logger.
func (s *Service) Logger() *slog.Logger { return s.logger }

// Close releases everything, last opened first. Run calls it.
func (s *Service) Close() error {
	var errs []error
	for len(s.closers) > 0 {
		last := len(s.closers) - 1
		errs = append(errs, s.closers[last]())
		s.closers = s.closers[:last]
	}
	return errors.Join(errs...)
}
