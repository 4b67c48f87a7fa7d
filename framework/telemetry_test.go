package framework_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/handlers"
)

// adminService is a service whose admin server can be asked.
func adminService(t *testing.T, cfg *config.Config, options ...framework.Option) (*framework.Service, func(path string) string) {
	t.Helper()
	var mu sync.Mutex
	var address string
	logger := slog.New(addressLog{Handler: slog.DiscardHandler, mu: &mu, address: &address})
	service, err := framework.New(t.Context(), cfg, append(options, framework.WithLogger(logger))...)
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return service, func(path string) string {
		mu.Lock()
		defer mu.Unlock()
		response, err := client.Get("http://" + address + path)
		require.NoError(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return string(body)
	}
}

// Everything that happens to events is counted, and duplicates with their cause.
func TestMetricsAndDuplicates(t *testing.T) {
	service, get := adminService(t, parse(t, ""))
	fails := map[string]int{"flaky": 1}
	framework.Handle(service, "orders", func(_ context.Context, order Order) (Shipment, error) {
		switch {
		case order.ID == "broken":
			return Shipment{}, handlers.Permanent(errors.New("no such item"))
		case fails[order.ID] > 0:
			fails[order.ID]--
			return Shipment{}, errors.New("not now")
		}
		return Shipment{order.ID}, nil
	}, framework.To("shipments"))
	send := func(id string, meta ...string) {
		payload, err := json.Marshal(Order{ID: id})
		require.NoError(t, err)
		msg := message.NewMessage("", payload)
		msg.Metadata.Set(dedup.MetaEventID, id)
		msg.Metadata.Set(dedup.MetaKey, "one") // in order, so that a copy finds the mark
		for i := 0; i < len(meta); i += 2 {
			msg.Metadata.Set(meta[i], meta[i+1])
		}
		require.NoError(t, service.Publisher().Publish("orders", msg))
	}
	send("flaky")
	send("flaky", "ce_type", "order.placed")
	send("flaky", dedup.MetaReplayedAt, "2026-01-01T00:00:00Z")
	send("flaky", dedup.MetaRelayAttempt, "2")
	send("broken")
	send("last")
	stop := start(t, service)
	read(t, service, "shipments", 2)
	metrics := get("/metrics")
	for _, line := range []string{
		`hapax_events_total{handler="orders",outcome="processed",topic="orders"} 2`,
		`hapax_events_total{handler="orders",outcome="duplicate",topic="orders"} 3`,
		`hapax_events_total{handler="orders",outcome="conflict",topic="orders"} 0`,
		`hapax_duplicates_total{cause="producer_retry",handler="orders",topic="orders"} 1`,
		`hapax_duplicates_total{cause="operator_replay",handler="orders",topic="orders"} 1`,
		`hapax_duplicates_total{cause="relay_resend",handler="orders",topic="orders"} 1`,
		`hapax_duplicates_total{cause="lease_expiry",handler="orders",topic="orders"} 0`,
		`hapax_dead_letters_total{handler="orders",reason="permanent",topic="orders"} 1`,
		`hapax_retries_total{handler="orders",topic="orders"} 1`,
		`hapax_lease_takeovers_total{handler="orders",topic="orders"} 0`,
		`hapax_handler_duration_seconds_count{handler="orders",topic="orders"} 4`,
		`hapax_commit_duration_seconds_count{handler="orders",topic="orders"} 2`,
		`hapax_consumers{group="fulfilment.orders",topic="orders"} 1`,
		`hapax_backlog_messages{group="fulfilment.orders",topic="orders"} 0`,
	} {
		require.Contains(t, metrics, line+"\n")
	}
	require.Contains(t, metrics, "hapax_in_flight{")

	var report framework.DuplicateReport
	require.NoError(t, json.Unmarshal([]byte(get("/duplicates")), &report))
	require.Equal(t, "fulfilment", report.Service)
	require.WithinDuration(t, time.Now(), report.Since, time.Minute)
	require.Len(t, report.Recent, 3)
	require.Equal(t, framework.RelayResend, report.Recent[0].Cause, "newest first")
	require.Equal(t, "flaky", report.Recent[0].EventID)
	require.Contains(t, report.Recent[0].Position, "orders@")
	byCause := map[framework.Cause]string{}
	total := 0
	for _, count := range report.Hours {
		byCause[count.Cause] = count.Type
		total += count.Count
	}
	require.Equal(t, 3, total)
	require.Equal(t, map[framework.Cause]string{
		framework.ProducerRetry: "order.placed", framework.OperatorReplay: "orders", framework.RelayResend: "orders",
	}, byCause)
	require.NoError(t, json.Unmarshal([]byte(get("/duplicates?limit=1&hours=0")), &report))
	require.Empty(t, report.Recent)
	require.NoError(t, stop())
}

// A trace runs from the publisher through handler and commit to the next handler.
func TestTraceGoesThrough(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	service, _ := adminService(t, parse(t, ""), framework.WithTracing(provider))
	framework.Handle(service, "orders", func(_ context.Context, order Order) (Shipment, error) {
		return Shipment{order.ID}, nil
	}, framework.To("shipments"))
	inHandler := make(chan trace.SpanContext, 1)
	framework.Handle(service, "shipments", func(ctx context.Context, shipment Shipment) error {
		inHandler <- trace.SpanContextFromContext(ctx)
		return nil
	})
	stop := start(t, service)
	ctx, root := provider.Tracer("test").Start(t.Context(), "root")
	msg := message.NewMessage("", []byte(`{"id":"1"}`))
	msg.Metadata.Set(dedup.MetaEventID, "1")
	msg.SetContext(ctx)
	require.NoError(t, service.Publisher().Publish("orders", msg))
	root.End()
	require.Equal(t, root.SpanContext().TraceID(), (<-inHandler).TraceID())
	require.NoError(t, stop())

	parents, byID := map[string]string{}, map[trace.SpanID]string{}
	for _, span := range recorder.Ended() {
		require.Equal(t, root.SpanContext().TraceID(), span.SpanContext().TraceID(), span.Name())
		byID[span.SpanContext().SpanID()] = span.Name()
	}
	for _, span := range recorder.Ended() {
		parents[span.Name()] = byID[span.Parent().SpanID()]
	}
	require.Equal(t, map[string]string{
		"root": "", "send orders": "root", "process orders": "send orders", "handle orders": "process orders", "commit orders": "process orders",
		"process shipments": "commit orders", "handle shipments": "process shipments", "commit shipments": "process shipments",
	}, parents)
}

// A run that panics is measured, and its span ends, like any other.
func TestAPanicIsMeasured(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	service, get := adminService(t, parse(t, ""), framework.WithTracing(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))))
	framework.Handle(service, "orders", func(context.Context, Order) error { panic("out of range") })
	framework.Handle(service, "parcels", func(context.Context, []Order) error { panic("out of range") }, framework.Batch(2, time.Millisecond))
	stop := start(t, service)
	publish(t, service, "orders", "1", Order{ID: "1"})
	publish(t, service, "parcels", "1", Order{ID: "1"})
	read(t, service, "orders.dead", 1)
	read(t, service, "parcels.dead", 1)
	for _, handler := range []string{"orders", "parcels"} {
		require.Regexp(t, `hapax_handler_duration_seconds_count\{handler="`+handler+`".*\} [1-9]`, get("/metrics"))
	}
	require.NoError(t, stop())
	failed := map[string]bool{}
	for _, span := range recorder.Ended() {
		failed[span.Name()] = span.Status().Code == codes.Error
	}
	require.True(t, failed["handle orders"] && failed["handle parcels"], "%v", failed)
}

const parentTrace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// handOn runs a service that answers an event, which has come with a trace, on the
// topic shipments.
func handOn(t *testing.T, cfg *config.Config) (service *framework.Service, stop func() error) {
	service = newService(t, cfg)
	framework.Handle(service, "orders", func(_ context.Context, order Order) (Shipment, error) {
		return Shipment{order.ID}, nil
	}, framework.To("shipments"))
	stop = start(t, service)
	msg := message.NewMessage("", []byte(`{"id":"1"}`))
	msg.Metadata.Set(dedup.MetaEventID, "1")
	msg.Metadata.Set("traceparent", parentTrace)
	require.NoError(t, service.Publisher().Publish("orders", msg))
	return service, stop
}

// Without a collector nothing is recorded, but a trace is handed on.
func TestTraceIsHandedOn(t *testing.T) {
	service, stop := handOn(t, parse(t, ""))
	require.Equal(t, parentTrace, read(t, service, "shipments", 1)[0].Metadata.Get("traceparent"))
	require.NoError(t, stop())
}

// Also through the outbox of a database, and a relay apart from the service.
func TestTraceGoesThroughTheOutbox(t *testing.T) {
	cfg := parse(t, fmt.Sprintf("sql: {dsn: %q, outbox: {relay: false}}\n", filepath.Join(t.TempDir(), "shop.db")))
	service, stop := handOn(t, cfg)
	db, _, err := framework.OpenDatabase(t.Context(), cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	require.Eventually(t, func() bool {
		var waiting int
		err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM hapax_outbox WHERE topic = 'shipments'`).Scan(&waiting)
		return err == nil && waiting == 1
	}, patience, 10*time.Millisecond)

	ctx, end := context.WithCancel(t.Context())
	relayed := make(chan error, 1)
	go func() { relayed <- framework.RunRelay(ctx, cfg) }()
	require.Equal(t, parentTrace, read(t, service, "shipments", 1)[0].Metadata.Get("traceparent"))
	end()
	require.NoError(t, <-relayed)
	require.NoError(t, stop())
}

// The tracing block sends to a collector, and the last spans before the end too.
func TestTracesReachTheCollector(t *testing.T) {
	received := make(chan string, 10)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		received <- r.URL.Path + " " + string(body)
	}))
	defer collector.Close()
	service := newService(t, parse(t, "tracing: {endpoint: \""+collector.URL+"\"}\n"))
	framework.Handle(service, "orders", func(context.Context, Order) error { return nil })
	publish(t, service, "orders", "1", Order{ID: "1"})
	handled := make(chan struct{})
	service.Use(func(handle message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			defer close(handled)
			return handle(msg)
		}
	})
	stop := start(t, service)
	<-handled
	require.NoError(t, stop())
	sent := <-received
	require.True(t, strings.HasPrefix(sent, "/v1/traces "), sent)
	require.Contains(t, sent, "process orders")
	require.Contains(t, sent, "fulfilment")
}

// A topic has one name in all metrics, whatever the broker calls it.
func TestMetricsKnowLogicalNamesOnly(t *testing.T) {
	service, get := adminService(t, parse(t, "topics: {orders: {name: nu-orders}}\n"))
	framework.Handle(service, "orders", func(context.Context, Order) error { return nil }, framework.Name("ship"))
	publish(t, service, "orders", "1", Order{ID: "1"})
	start(t, service)
	require.Eventually(t, func() bool {
		return strings.Contains(get("/metrics"), `hapax_events_total{handler="ship",outcome="processed",topic="orders"} 1`)
	}, patience, 20*time.Millisecond)
	found := get("/metrics")
	require.Contains(t, found, `hapax_backlog_messages{group="fulfilment.ship",topic="orders"} 0`)
	require.NotContains(t, found, "nu-orders")
}
