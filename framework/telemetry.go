package framework

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/handlers"
)

// telemetry is what is measured, counted and traced of one handler. From the
// outside in, it has a place at each step of mount:
//
//	delivery → (dead letter → retry → claim) → run → (the function) → commit
type telemetry struct {
	handler, topic string
	logger         *slog.Logger
	metrics        *metrics
	tracing        *tracing
	record         *DuplicateLog

	outcomes  map[dedup.Outcome]prometheus.Counter
	takeovers prometheus.Counter
	retries   prometheus.Counter
	inFlight  prometheus.Gauge
	handling  prometheus.Observer
	commits   prometheus.Observer
}

var outcomeLabels = map[dedup.Outcome]string{
	dedup.Processed: "processed", dedup.AlreadyProcessed: "duplicate", dedup.LostRace: "lost_race",
	dedup.StillInFlight: "in_flight", dedup.Conflicted: "conflict", dedup.NoID: "no_id",
	dedup.Failed: "failed", dedup.CommitFailed: "commit_failed",
}

func (s *Service) telemetry(handler, topic string) *telemetry {
	m := s.metrics
	t := &telemetry{
		handler: handler, topic: topic, logger: s.logger, metrics: m, tracing: s.tracing, record: s.duplicates,
		outcomes:  map[dedup.Outcome]prometheus.Counter{},
		takeovers: m.takeovers.WithLabelValues(handler, topic),
		retries:   m.retries.WithLabelValues(handler, topic),
		inFlight:  m.inFlight.WithLabelValues(handler, topic),
		handling:  m.handling.WithLabelValues(handler, topic),
		commits:   m.commits.WithLabelValues(handler, topic),
	}
	// Those that did not happen yet are zero, not missing: an alert on a rate needs
	// the step from zero to one.
	for outcome, label := range outcomeLabels {
		t.outcomes[outcome] = m.events.WithLabelValues(handler, topic, label)
	}
	for _, cause := range causes {
		m.duplicates.WithLabelValues(handler, topic, cause.label())
	}
	for _, reason := range []string{handlers.ReasonPermanent, handlers.ReasonExhausted, handlers.ReasonUndecodable, handlers.ReasonNoID, handlers.ReasonConflict, handlers.ReasonBadOutput} {
		m.letters.WithLabelValues(handler, topic, reason)
	}
	return t
}

// Observe implements dedup.Observer.
func (t *telemetry) Observe(event *dedup.Event, outcome dedup.Outcome, err error) {
	t.outcomes[outcome].Inc()
	takenOver := errors.Is(err, dedup.ErrLeaseLost)
	if takenOver {
		t.takeovers.Inc()
	}
	switch {
	case outcome == dedup.AlreadyProcessed, outcome == dedup.LostRace, takenOver:
		cause := causeOf(event, takenOver)
		t.metrics.duplicates.WithLabelValues(t.handler, t.topic, cause.label()).Inc()
		t.record.add(event, t.topic, cause, time.Now())
		t.logger.Debug("duplicate dropped", "event", event.EventID, "topic", event.Topic, "handler", t.handler, "cause", cause)
	case outcome == dedup.Conflicted, outcome == dedup.CommitFailed:
		t.logger.Warn(string(outcome), "event", event.EventID, "topic", event.Topic, "handler", t.handler, "error", err)
	}
}

// delivery is the outermost middleware: everything about one handing-out.
func (t *telemetry) delivery(handle message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		t.inFlight.Inc()
		defer t.inFlight.Dec()
		delivered := msg.Context()
		ctx, end := t.tracing.receive(delivered, t, msg)
		msg.SetContext(ctx)
		outputs, err := handle(msg)
		msg.SetContext(delivered)
		end(err)
		return outputs, err
	}
}

// run wraps the function itself.
func (t *telemetry) run(typed handlers.Handler) handlers.Handler {
	single, batch := typed.Single, typed.Batch
	typed.Single = func(msg *message.Message) (outputs []*message.Message, err error) {
		before, began := msg.Context(), time.Now()
		ctx, end := t.tracing.step(before, "handle "+t.handler)
		if ctx != before {
			msg.SetContext(ctx)
			defer msg.SetContext(before) // the commit reads it
		}
		err = errPanicked // unless it returns
		defer func() { t.ran(began, end, err) }()
		outputs, err = single(msg)
		return outputs, err
	}
	if batch != nil {
		typed.Batch = func(msgs []*message.Message) (outputs []*message.Message, err error) {
			began := time.Now()
			end := t.tracing.batch(msgs, "handle "+t.handler)
			err = errPanicked
			defer func() { t.ran(began, end, err) }()
			outputs, err = batch(msgs)
			return outputs, err
		}
	}
	return typed
}

var errPanicked = errors.New("the handler panicked")

func (t *telemetry) ran(began time.Time, end func(error), err error) {
	t.handling.Observe(time.Since(began).Seconds())
	end(err)
}

// retried is handlers.Retry.OnRetry.
func (t *telemetry) retried(*message.Message, int, error, time.Duration) { t.retries.Inc() }

// bury counts the letters that are durable.
func (t *telemetry) bury(bury func(context.Context, *message.Message, dedup.Output) error) func(context.Context, *message.Message, dedup.Output) error {
	return func(ctx context.Context, msg *message.Message, letter dedup.Output) error {
		err := bury(ctx, msg, letter)
		if err == nil {
			t.metrics.letters.WithLabelValues(t.handler, t.topic, letter.Message.Metadata.Get(dedup.MetaDeadReason)).Inc()
		}
		return err
	}
}

// observedStrategy measures commits, and hands the trace on to the outputs.
type observedStrategy struct {
	dedup.Strategy
	telemetry *telemetry
}

// Expect implements dedup.Expecter.
func (s observedStrategy) Expect(id dedup.ID) { expect(s.Strategy, id) }

// Claim implements dedup.Strategy.
func (s observedStrategy) Claim(ctx context.Context, events []*dedup.Event) (dedup.Claim, error) {
	claim, err := s.Strategy.Claim(ctx, events)
	if claim == nil || err != nil {
		return nil, err
	}
	return observedClaim{claim, s.telemetry}, nil
}

type observedClaim struct {
	dedup.Claim
	telemetry *telemetry
}

// Commit implements dedup.Claim.
func (c observedClaim) Commit(ctx context.Context, outputs []dedup.Output) error {
	began := time.Now()
	ctx, end := c.telemetry.tracing.step(ctx, "commit "+c.telemetry.handler)
	for _, output := range outputs {
		c.telemetry.tracing.inject(ctx, output.Message)
	}
	err := c.Claim.Commit(ctx, outputs)
	c.telemetry.commits.Observe(time.Since(began).Seconds())
	end(err)
	return err
}

// measure adds the broker's figures to the metrics.
func (s *Service) measure() {
	meter, can := s.broker.(adapters.Meter)
	if !can {
		return
	}
	handlers := s.handlerTopics()
	list, topics := uses(s.config, handlers), map[string]string{}
	for handler, topic := range handlers {
		topics[s.config.Service+"."+handler] = topic
	}
	s.metrics.meter(s.logger, func(ctx context.Context) ([]adapters.Figure, error) {
		figures, err := meter.Figures(ctx, list)
		nameLogically(figures, topics)
		return figures, err
	})
}

// nameLogically gives the topic of a group's figures its logical name, as all other
// metrics have it: the broker knows its own only. topics are by group.
func nameLogically(figures []adapters.Figure, topics map[string]string) {
	for _, figure := range figures {
		labels := map[string]*string{}
		for i := 0; i+1 < len(figure.Labels); i += 2 {
			labels[figure.Labels[i]] = &figure.Labels[i+1]
		}
		if topic, group := labels["topic"], labels["group"]; topic != nil && group != nil && topics[*group] != "" {
			*topic = topics[*group]
		}
	}
}

func (s *Service) handlerTopics() map[string]string {
	topics := map[string]string{}
	for _, r := range s.registrations {
		topics[r.name] = r.topic
	}
	return topics
}
