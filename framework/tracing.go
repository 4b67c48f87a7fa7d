package framework

import (
	"context"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework/config"
)

// tracing makes OpenTelemetry spans and carries the trace through messages, as W3C
// trace context in their metadata: traceparent and tracestate cross every broker
// and the outbox like any other metadata. Without a tracer no spans are made, but a
// trace that others have begun is still handed on.
type tracing struct {
	tracer trace.Tracer // nil: none
}

var traceContext propagation.TraceContext

// WithTracing makes spans with a tracer provider of the caller's, instead of one
// that the config's tracing block describes. The caller shuts it down.
func WithTracing(provider trace.TracerProvider) Option {
	return func(s *Service) { s.tracing = newTracing(provider) }
}

func newTracing(provider trace.TracerProvider) *tracing {
	return &tracing{provider.Tracer("github.com/hapax-go/hapax/framework")}
}

// openTracing exports to the collector of the tracing block. Closing it sends what
// is left.
func openTracing(ctx context.Context, cfg *config.Config) (*tracing, func() error, error) {
	if cfg.Tracing.Endpoint == "" {
		return &tracing{}, func() error { return nil }, nil
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(cfg.Tracing.Endpoint+tracesPath))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: open exporter of traces: %w", cfg.Where("tracing.endpoint"), err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		// Who began a trace has decided whether it is recorded.
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(cfg.Tracing.Sample))),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", cfg.Service))),
	)
	return newTracing(provider), func() error {
		ctx, cancel := context.WithTimeout(context.Background(), tracesFlush)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			return fmt.Errorf("send the last traces to %s: %w", cfg.Tracing.Endpoint, err)
		}
		return nil
	}, nil
}

const (
	tracesPath  = "/v1/traces"
	tracesFlush = 5 * time.Second
)

func nothing(error) {}

// receive begins the span of a delivery, in the trace of the message.
func (t *tracing) receive(ctx context.Context, h *telemetry, msg *message.Message) (context.Context, func(error)) {
	if msg.Metadata.Get("traceparent") != "" {
		ctx = traceContext.Extract(ctx, propagation.MapCarrier(msg.Metadata))
	}
	if t.tracer == nil {
		return ctx, nothing
	}
	attributes := []attribute.KeyValue{
		attribute.String("messaging.operation.type", "process"), attribute.String("messaging.destination.name", h.topic),
		attribute.String("messaging.message.id", msg.UUID), attribute.String("hapax.handler", h.handler),
		attribute.String("hapax.event_id", msg.Metadata.Get(dedup.MetaEventID)),
	}
	if delivery := adapters.DeliveryFrom(ctx); delivery != nil {
		attributes = append(attributes, attribute.Int("hapax.attempt", delivery.Attempt), attribute.String("hapax.position", delivery.Position))
	}
	ctx, span := t.tracer.Start(ctx, "process "+h.topic, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attributes...))
	return ctx, ending(span)
}

// step begins a span inside of a delivery's.
func (t *tracing) step(ctx context.Context, name string) (context.Context, func(error)) {
	if t.tracer == nil {
		return ctx, nothing
	}
	ctx, span := t.tracer.Start(ctx, name)
	return ctx, ending(span)
}

// batch begins the span of a batch, in the trace of its first message, linked to
// those of the others.
func (t *tracing) batch(msgs []*message.Message, name string) func(error) {
	if t.tracer == nil || len(msgs) == 0 {
		return nothing
	}
	links := make([]trace.Link, 0, len(msgs)-1)
	for _, msg := range msgs[1:] {
		links = append(links, trace.LinkFromContext(msg.Context()))
	}
	before := msgs[0].Context()
	ctx, span := t.tracer.Start(before, name, trace.WithLinks(links...), trace.WithAttributes(attribute.Int("messaging.batch.message_count", len(msgs))))
	msgs[0].SetContext(ctx)
	end := ending(span)
	return func(err error) {
		msgs[0].SetContext(before)
		end(err)
	}
}

// inject writes the trace of ctx into a message that has none of its own.
func (t *tracing) inject(ctx context.Context, msg *message.Message) {
	if msg.Metadata.Get("traceparent") == "" {
		traceContext.Inject(ctx, propagation.MapCarrier(msg.Metadata))
	}
}

func ending(span trace.Span) func(error) {
	return func(err error) {
		if err != nil {
			span.RecordError(err)
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// tracedPublisher begins a span for each publication from outside of handlers, and
// writes the trace into its messages.
type tracedPublisher struct {
	message.Publisher
	tracing *tracing
}

// Publish implements message.Publisher.
func (p tracedPublisher) Publish(topic string, messages ...*message.Message) error {
	ends := make([]func(error), len(messages))
	for i, msg := range messages {
		if msg.Metadata == nil {
			msg.Metadata = message.Metadata{}
		}
		var ctx context.Context
		ctx, ends[i] = p.tracing.send(msg.Context(), topic, msg)
		p.tracing.inject(ctx, msg)
	}
	err := p.Publisher.Publish(topic, messages...)
	for _, end := range ends {
		end(err)
	}
	return err
}

func (t *tracing) send(ctx context.Context, topic string, msg *message.Message) (context.Context, func(error)) {
	if t.tracer == nil {
		return ctx, nothing
	}
	ctx, span := t.tracer.Start(ctx, "send "+topic, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		attribute.String("messaging.operation.type", "send"), attribute.String("messaging.destination.name", topic),
		attribute.String("messaging.message.id", msg.UUID)))
	return ctx, ending(span)
}
