package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/internal/servers"
)

// onEveryBroker runs a test with the config file of each broker. Topic names are
// the test's to make up: the servers outlive it.
func onEveryBroker(t *testing.T, test func(t *testing.T, broker, file string)) {
	const head = "service: fulfilment\nadmin: {enabled: false}\nretry: {initial_interval: 1ms, max_interval: 2ms, max_attempts: 2}\n"
	file := func(t *testing.T, text string) string {
		return writeConfig(t, head+text+fmt.Sprintf("sqlite: {path: %q}\n", filepath.Join(t.TempDir(), "hapax.db")))
	}
	t.Run("sqlite", func(t *testing.T) { test(t, "sqlite", file(t, "broker: sqlite\n")) })
	t.Run("kafka", func(t *testing.T) {
		address := servers.Require(t, servers.Kafka)
		test(t, "kafka", file(t, fmt.Sprintf("broker: kafka\nkafka: {brokers: [%q], create_topics: true}\n", address.Hosts[0])))
	})
	t.Run("redis", func(t *testing.T) {
		address := servers.Require(t, servers.Redis)
		test(t, "redis", file(t, fmt.Sprintf("broker: redis\nredis: {addresses: [%q]}\n", address.Hosts[0])))
	})
	t.Run("rabbitmq", func(t *testing.T) {
		address := servers.Require(t, servers.RabbitMQ)
		test(t, "rabbitmq", file(t, fmt.Sprintf("broker: rabbitmq\nrabbitmq: {url: %q}\n", address.URL)))
	})
	for _, name := range []string{"sqs", "sqs-fifo"} {
		t.Run(name, func(t *testing.T) {
			address := servers.Require(t, servers.SQS)
			t.Setenv("AWS_ACCESS_KEY_ID", "test")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
			test(t, name, file(t, fmt.Sprintf("broker: %s\nsqs: {endpoint: %q, region: eu-west-1, create: true, wait_time: 1s}\n", name, address.URL)))
		})
	}
}

// serve runs a service with one handler in this process, until the returned
// function.
func serve(t *testing.T, file, topic string, handle func(context.Context, map[string]any) error, options ...framework.HandleOption) (stop func()) {
	t.Helper()
	cfg, err := config.Load(file, nil)
	require.NoError(t, err)
	service, err := framework.New(t.Context(), cfg, framework.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	framework.Handle(service, topic, handle, options...)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- service.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); require.NoError(t, <-ran) })
	t.Cleanup(stop)
	select {
	case <-service.Router().Running():
	case err := <-ran:
		ran <- err
		require.NoError(t, err)
	case <-time.After(time.Minute):
		require.Fail(t, "the service does not start")
	}
	return stop
}

// lines counts the lines of a command's output.
func lines(text string) int { return strings.Count(text, "\n") }
