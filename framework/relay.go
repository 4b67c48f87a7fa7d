package framework

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/relay"
)

// RunRelay publishes the outbox of the sql block to the broker until ctx ends, in
// a process of its own; any number of them share the work, with those in
// services. It serves health and metrics as a service does.
func RunRelay(ctx context.Context, cfg *config.Config, options ...Option) (err error) {
	s, err := New(ctx, cfg, options...)
	if err != nil {
		return unlessStopped(ctx, newLogger(cfg.Log), err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if _, err := s.openDatabase(ctx); err != nil {
		return unlessStopped(ctx, s.logger, err)
	}
	if err := s.startRelay(ctx); err != nil {
		return unlessStopped(ctx, s.logger, err)
	}
	stopAdmin, err := s.serveAdmin()
	if err != nil {
		return err
	}
	defer stopAdmin()
	s.health.ready.Store(true)
	s.logger.Info("relaying", "service", cfg.Service, "broker", cfg.Broker, "outbox", cfg.SQL.Outbox.Table)
	<-ctx.Done()
	s.health.ready.Store(false)
	return nil
}

// embedRelay starts a relay when handlers write to the outbox and no other process
// is to publish it.
func (s *Service) embedRelay(ctx context.Context) error {
	if s.database == nil || s.database.inbox == nil || !s.config.SQL.Outbox.Relay {
		return nil
	}
	return s.startRelay(ctx)
}

// startRelay starts a relay that is ended when the service closes, which is after the
// last handler has returned.
func (s *Service) startRelay(ctx context.Context) error {
	names := s.topicNames()
	r, err := relay.New(relay.Config{
		DB:          s.database.db,
		Outbox:      outbox.Config{Dialect: s.database.dialect, Table: s.database.names.OutboxTable()},
		Publisher:   storedPublisher{s.broker.Publisher(), names, slices.Collect(maps.Values(names))},
		Ping:        s.broker.Ping,
		Instance:    s.config.Service,
		MaxAttempts: s.config.SQL.Outbox.MaxAttempts,
		Retention:   s.config.SQL.Outbox.Retention.Std(),
		Logger:      s.logger,
	})
	if err != nil {
		return fmt.Errorf("start relay: %w", err)
	}
	if _, err := r.Table().Status(ctx); err != nil {
		return fmt.Errorf("start relay: %w", err)
	}
	s.watchRelay(r)
	s.relay.Store(r)
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.keepRelaying(running, r.Run)
	}()
	s.closers = append(s.closers, func() error { cancel(); s.awaitRelay(ended); return nil })
	return nil
}

// keepRelaying runs a relay until ctx ends. By itself a relay ends only when its first look
// at the outbox fails. Without it rows would wait for ever, in a service that is ready.
func (s *Service) keepRelaying(ctx context.Context, run func(context.Context) error) {
	for {
		err := run(ctx)
		if ctx.Err() != nil {
			return
		}
		s.logger.Error("the outbox's relay ended, and begins again", "error", err, "in", relayPause.String())
		select {
		case <-ctx.Done():
			return
		case <-time.After(relayPause):
		}
	}
}

const relayPause = time.Second

// awaitRelay waits for a relay that was told to stop, as long as the Router is waited
// for. It may be stuck in a publish to a broker that is away, and what is closed after
// it must have its turn: the broker last, which ends that publish. A relay that is left
// behind does no harm. Its leases run out by themselves, and rows whose publishing it
// could not write down any more are published again, under the same event IDs.
func (s *Service) awaitRelay(ended <-chan struct{}) {
	patience := s.config.Shutdown.DrainTimeout.Std() + closeGrace
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		s.logger.Warn("the outbox's relay is left behind in the middle of publishing: its shards wait for their leases to run out, and rows that the broker did not confirm are published again",
			"waited", patience.String())
	}
}

// wakeEmbedded tells the relay, if it is here, that rows were committed.
func (s *Service) wakeEmbedded() {
	if r := s.relay.Load(); r != nil {
		r.Wake()
	}
}

// watchRelay adds the outbox and what this relay does to the metrics.
func (s *Service) watchRelay(r *relay.Relay) {
	s.WatchOutbox(func(ctx context.Context) (OutboxState, error) {
		status, err := r.Table().Status(ctx)
		return OutboxState{Waiting: status.Waiting, Oldest: status.Oldest, Parked: status.Parked}, err
	})
	s.metrics.meter(s.logger, func(context.Context) ([]adapters.Figure, error) {
		stats, down := r.Stats(), 0.0
		if r.Healthy() != nil {
			down = 1
		}
		return []adapters.Figure{
			{Name: "hapax_relay_published_total", Help: "Rows that this relay published, copies included.", Counter: true, Value: float64(stats.Published)},
			{Name: "hapax_relay_failures_total", Help: "Tries of single rows that failed though the broker was there.", Counter: true, Value: float64(stats.Failed)},
			{Name: "hapax_relay_parked_total", Help: "Rows that this relay parked.", Counter: true, Value: float64(stats.Parked)},
			{Name: "hapax_relay_shards", Help: "Shards of keys that this relay owns now, of 32.", Value: float64(stats.Shards)},
			{Name: "hapax_relay_waits", Help: "1 while the relay waits for a database or a broker that is away.", Value: down},
		}, nil
	})
}

// storedPublisher publishes what an outbox holds. Handlers' outputs stand in it
// under the names of the broker already; what other programs wrote has logical
// names. So a name that some topic has at the broker is taken for that.
type storedPublisher struct {
	message.Publisher
	names topicNames
	final []string
}

// Publish implements message.Publisher.
func (p storedPublisher) Publish(topic string, messages ...*message.Message) error {
	if !slices.Contains(p.final, topic) {
		topic = p.names.of(topic)
	}
	return p.Publisher.Publish(topic, messages...)
}
