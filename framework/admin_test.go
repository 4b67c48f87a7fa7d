package framework_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/framework"
)

// addressLog is a logger that catches the address that the admin server got.
type addressLog struct {
	slog.Handler
	mu      *sync.Mutex
	address *string
}

func (a addressLog) Enabled(context.Context, slog.Level) bool { return true }

func (a addressLog) Handle(_ context.Context, record slog.Record) error {
	if record.Message != "serving health checks" {
		return nil
	}
	record.Attrs(func(attribute slog.Attr) bool {
		if attribute.Key == "address" {
			a.mu.Lock()
			*a.address = attribute.Value.String()
			a.mu.Unlock()
		}
		return true
	})
	return nil
}

func TestHealthReadinessAndMetrics(t *testing.T) {
	var mu sync.Mutex
	var address string
	logger := slog.New(addressLog{Handler: slog.DiscardHandler, mu: &mu, address: &address})
	service, err := framework.New(t.Context(), parse(t, ""), framework.WithLogger(logger))
	require.NoError(t, err)
	framework.Handle(service, "orders", func(context.Context, Order) (Shipment, error) { return Shipment{}, nil }, framework.To("shipments"))
	for range 2 {
		publish(t, service, "orders", "1", Order{ID: "1"})
	}
	publish(t, service, "orders", "2", Order{ID: "2"})
	stop := start(t, service)
	read(t, service, "shipments", 2)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path string) (int, string) {
		mu.Lock()
		defer mu.Unlock()
		response, err := client.Get("http://" + address + path)
		require.NoError(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, strings.TrimSpace(string(body))
	}
	status, body := get("/healthz")
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"status":"ok"}`, body)
	require.Eventually(t, func() bool { status, _ := get("/readyz"); return status == http.StatusOK }, patience, 1e6)
	require.Eventually(t, func() bool {
		_, metrics := get("/metrics")
		return strings.Contains(metrics, `hapax_events_total{handler="orders",outcome="processed",topic="orders"} 2`) &&
			strings.Contains(metrics, `hapax_events_total{handler="orders",outcome="duplicate",topic="orders"} 1`)
	}, patience, 1e6)

	// The broker is away: alive, but not ready.
	require.NoError(t, sqliteDB(t, service).Close())
	status, _ = get("/healthz")
	require.Equal(t, http.StatusOK, status)
	status, body = get("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, body, "broker does not answer")
	_ = stop()
}
