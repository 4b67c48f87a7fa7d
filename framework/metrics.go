package framework

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/hapax-go/hapax/dedup"
)

// metrics is the service's own registry: two services in one process, as in
// tests, do not share counters.
type metrics struct {
	registry *prometheus.Registry
	events   *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hapax_events_total",
			Help: "Deliveries by what became of them: processed, duplicate, in_flight, conflict, no_id, failed, commit_failed, lost_race.",
		}, []string{"handler", "topic", "outcome"}),
	}
	m.registry.MustRegister(m.events, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// observer counts a handler's outcomes and logs the ones that need eyes.
type observer struct {
	logger   *slog.Logger
	counters map[dedup.Outcome]prometheus.Counter
}

var outcomeLabels = map[dedup.Outcome]string{
	dedup.Processed: "processed", dedup.AlreadyProcessed: "duplicate", dedup.LostRace: "lost_race",
	dedup.StillInFlight: "in_flight", dedup.Conflicted: "conflict", dedup.NoID: "no_id",
	dedup.Failed: "failed", dedup.CommitFailed: "commit_failed",
}

func (m *metrics) observer(logger *slog.Logger, handler, topic string) *observer {
	o := &observer{logger: logger, counters: map[dedup.Outcome]prometheus.Counter{}}
	for outcome, label := range outcomeLabels {
		o.counters[outcome] = m.events.WithLabelValues(handler, topic, label)
	}
	return o
}

// Observe implements dedup.Observer.
func (o *observer) Observe(event *dedup.Event, outcome dedup.Outcome, err error) {
	o.counters[outcome].Inc()
	switch outcome {
	case dedup.AlreadyProcessed, dedup.LostRace:
		o.logger.Debug("duplicate dropped", "event", event.EventID, "topic", event.Topic, "handler", event.Scope.Handler)
	case dedup.Conflicted, dedup.CommitFailed:
		o.logger.Warn(string(outcome), "event", event.EventID, "topic", event.Topic, "handler", event.Scope.Handler, "error", err)
	}
}
