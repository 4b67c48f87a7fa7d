package framework

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/handlers"
)

type noClaim struct{ dedup.Claim }

func (noClaim) Commit(context.Context, []dedup.Output) error { return nil }

// unsent takes spans and sends them nowhere.
type unsent struct{}

func (unsent) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (unsent) Shutdown(context.Context) error                             { return nil }

// BenchmarkTelemetry is what one event costs in metrics and traces, beside nothing at
// all: a delivery, a run of the handler, a commit with one output, an outcome.
func BenchmarkTelemetry(b *testing.B) {
	provider := func(share float64) *tracing {
		provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(unsent{}), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(share))))
		b.Cleanup(func() { _ = provider.Shutdown(context.WithoutCancel(b.Context())) })
		return newTracing(provider)
	}
	for _, variant := range []struct {
		name    string
		tracing *tracing
		parent  bool // the message comes with a trace of somebody else's
		outcome dedup.Outcome
	}{
		{"none", nil, false, dedup.Processed},
		{"metrics", &tracing{}, false, dedup.Processed},
		{"metrics, a duplicate", &tracing{}, false, dedup.AlreadyProcessed},
		{"metrics, a trace handed on", &tracing{}, true, dedup.Processed},
		{"1 percent traced", provider(0.01), false, dedup.Processed},
		{"all traced", provider(1), false, dedup.Processed},
	} {
		b.Run(variant.name, func(b *testing.B) {
			event := &dedup.Event{Message: message.NewMessage("1", nil)}
			event.EventID, event.Scope.Handler = "order-1", "ship"
			if variant.parent {
				event.Message.Metadata.Set("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")
			}
			output := dedup.Output{Topic: "shipments", Message: message.NewMessage("2", nil)}
			handle := handlers.Handler{Single: func(*message.Message) ([]*message.Message, error) { return nil, nil }}
			var commit dedup.Claim = noClaim{}
			observe := func(*dedup.Event, dedup.Outcome, error) {}
			wrap := func(next message.HandlerFunc) message.HandlerFunc { return next }
			if variant.tracing != nil {
				service := &Service{logger: slog.New(slog.DiscardHandler), metrics: newMetrics(), tracing: variant.tracing, duplicates: newDuplicateLog(time.Now())}
				t := service.telemetry("ship", "orders")
				handle, commit, observe, wrap = t.run(handle), observedClaim{noClaim{}, t}, t.Observe, t.delivery
			}
			deliver := wrap(func(msg *message.Message) ([]*message.Message, error) {
				if _, err := handle.Single(msg); err != nil {
					return nil, fmt.Errorf("handle: %w", err)
				}
				err := commit.Commit(msg.Context(), []dedup.Output{output})
				observe(event, variant.outcome, err)
				return nil, err
			})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := deliver(event.Message); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
