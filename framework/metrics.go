package framework

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/hapax-go/hapax/adapters"
)

// metrics is the service's own registry: two services in one process, as in
// tests, do not share counters.
type metrics struct {
	registry   *prometheus.Registry
	events     *prometheus.CounterVec
	duplicates *prometheus.CounterVec
	letters    *prometheus.CounterVec
	retries    *prometheus.CounterVec
	takeovers  *prometheus.CounterVec
	inFlight   *prometheus.GaugeVec
	handling   *prometheus.HistogramVec
	commits    *prometheus.HistogramVec
}

func newMetrics() *metrics {
	labels := func(more ...string) []string { return append([]string{"handler", "topic"}, more...) }
	counter := func(name, help string, labels []string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	// From half a millisecond to half a minute, doubling.
	buckets := prometheus.ExponentialBuckets(0.0005, 2, 17)
	m := &metrics{
		registry: prometheus.NewRegistry(),
		events: counter("hapax_events_total",
			"Deliveries by what became of them: processed, duplicate, in_flight, conflict, no_id, failed, commit_failed, lost_race.", labels("outcome")),
		duplicates: counter("hapax_duplicates_total",
			"Copies that took no effect, by why there was one: producer_retry, redelivery, relay_resend, operator_replay, lease_expiry.", labels("cause")),
		letters:   counter("hapax_dead_letters_total", "Events that went to the dead-letter topic, by the reason.", labels("reason")),
		retries:   counter("hapax_retries_total", "Runs of the handler that failed and were repeated.", labels()),
		takeovers: counter("hapax_lease_takeovers_total", "Claims that were taken over by another worker before they could commit.", labels()),
		inFlight:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "hapax_in_flight", Help: "Deliveries being processed now."}, labels()),
		handling: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hapax_handler_duration_seconds", Help: "How long a run of the handler took; of a batch, all of it.", Buckets: buckets,
		}, labels()),
		commits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hapax_commit_duration_seconds", Help: "How long a commit took: outputs, mark and the handler's SQL.", Buckets: buckets,
		}, labels()),
	}
	m.registry.MustRegister(m.events, m.duplicates, m.letters, m.retries, m.takeovers, m.inFlight, m.handling, m.commits,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// meter adds figures that are read when somebody asks for the metrics.
func (m *metrics) meter(logger *slog.Logger, read func(context.Context) ([]adapters.Figure, error)) {
	m.registry.MustRegister(&figures{logger: logger, read: read})
}

// figures is a collector of what a broker or a database tells.
type figures struct {
	logger *slog.Logger
	read   func(context.Context) ([]adapters.Figure, error)
}

// Describe implements prometheus.Collector: what there will be is not known before.
func (f *figures) Describe(chan<- *prometheus.Desc) {}

// figuresTimeout is what a broker that is away may cost a scrape.
const figuresTimeout = 3 * time.Second

// Collect implements prometheus.Collector. What cannot be read is missing: a stale
// or made-up value would be worse.
func (f *figures) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), figuresTimeout)
	defer cancel()
	list, err := f.read(ctx)
	if err != nil {
		f.logger.Warn("read figures for metrics: some are missing", "error", err)
	}
	for _, figure := range list {
		kind := prometheus.GaugeValue
		if figure.Counter {
			kind = prometheus.CounterValue
		}
		var names, values []string
		for i := 0; i+1 < len(figure.Labels); i += 2 {
			names, values = append(names, figure.Labels[i]), append(values, figure.Labels[i+1])
		}
		metric, err := prometheus.NewConstMetric(prometheus.NewDesc(figure.Name, figure.Help, names, nil), kind, figure.Value, values...)
		if err != nil {
			metric = prometheus.NewInvalidMetric(prometheus.NewDesc(figure.Name, figure.Help, names, nil), err)
		}
		out <- metric
	}
}

// OutboxState is what the metrics tell of an outbox.
type OutboxState struct {
	// Waiting rows, the age of the oldest, and rows that were parked.
	Waiting int64
	Oldest  time.Duration
	Parked  int64
}

// WatchOutbox adds the state of an outbox to the service's metrics; read asks the
// database, whenever somebody asks for them.
func (s *Service) WatchOutbox(read func(context.Context) (OutboxState, error)) {
	s.metrics.meter(s.logger, func(ctx context.Context) ([]adapters.Figure, error) {
		state, err := read(ctx)
		if err != nil {
			return nil, err
		}
		return []adapters.Figure{
			{Name: "hapax_outbox_rows", Help: "Rows of the outbox that wait to be published.", Value: float64(state.Waiting)},
			{Name: "hapax_outbox_age_seconds", Help: "Age of the oldest row that waits.", Value: state.Oldest.Seconds()},
			{Name: "hapax_outbox_parked_rows", Help: "Rows that could not be published and wait for an operator.", Value: float64(state.Parked)},
		}, nil
	})
}
