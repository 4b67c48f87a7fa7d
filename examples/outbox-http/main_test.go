package main

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
)

// The whole way: HTTP, the outbox, a relay as `hapax relay` runs it with this
// folder's hapax.yaml, and a consumer at the broker.
func TestOrdersLeaveWhenTheyAreStored(t *testing.T) {
	text, err := os.ReadFile("hapax.yaml")
	require.NoError(t, err)
	t.Chdir(t.TempDir())
	cfg, err := config.Parse("hapax.yaml", text, nil)
	require.NoError(t, err)
	cfg.Admin.Address = "127.0.0.1:0"

	api, err := Open(t.Context(), cfg.SQL.DSN.Reveal())
	require.NoError(t, err)
	defer api.DB.Close()
	post := func(body string) int {
		recorder := httptest.NewRecorder()
		api.ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/orders", strings.NewReader(body)))
		return recorder.Code
	}
	require.Equal(t, http.StatusCreated, post(`{"id":"1","item":"tea"}`))
	require.Equal(t, http.StatusConflict, post(`{"id":"1","item":"tea, again"}`))
	require.Equal(t, http.StatusBadRequest, post(`{"id":"2"}`))
	require.Equal(t, http.StatusCreated, post(`{"id":"3","item":"cake"}`))

	ctx, cancel := context.WithCancel(t.Context())
	relayed := make(chan error, 1)
	quiet := slog.New(slog.DiscardHandler)
	go func() { relayed <- framework.RunRelay(ctx, cfg, framework.WithLogger(quiet)) }()

	broker, err := framework.OpenBroker(t.Context(), cfg, quiet)
	require.NoError(t, err)
	defer broker.Close()
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "test"})
	require.NoError(t, err)
	messages, err := subscriber.Subscribe(t.Context(), "orders.created")
	require.NoError(t, err)
	got := map[string]bool{}
	for range 2 {
		select {
		case msg := <-messages:
			got[string(msg.Payload)] = true
			msg.Ack()
		case <-time.After(20 * time.Second):
			require.FailNow(t, "no event", "so far: %v", got)
		}
	}
	require.Equal(t, map[string]bool{`{"id":"1","item":"tea"}`: true, `{"id":"3","item":"cake"}`: true}, got)
	require.NoError(t, subscriber.Close())
	cancel()
	require.NoError(t, <-relayed)
	require.FileExists(t, "orders.db")
}
