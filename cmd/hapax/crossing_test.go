package main

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

// The trace that a producer began is that of the handler, whatever broker is in
// between.
func TestTraceCrossesEveryBroker(t *testing.T) {
	const id = "0af7651916cd43dd8448eb211c80319c"
	onEveryBroker(t, func(t *testing.T, _, file string) {
		topic := uniqueTopic()
		traces := make(chan string, 1)
		serve(t, file, topic, func(ctx context.Context, _ map[string]any) error {
			traces <- trace.SpanContextFromContext(ctx).TraceID().String()
			return nil
		})
		_, err := run(t, "publish", topic, "-f", file, "--data", "{}", "--meta", "traceparent=00-"+id+"-b7ad6b7169203331-01", "--meta", "tracestate=a=b")
		require.NoError(t, err)
		select {
		case got := <-traces:
			require.Equal(t, id, got)
		case <-time.After(30 * time.Second):
			require.Fail(t, "the event was not handled")
		}
	})
}

// What had committed is looked up in the inbox of a database, and in a ledger in
// one, as in the broker itself.
func TestWhatHadCommittedInADatabase(t *testing.T) {
	for name, configure := range map[string]func(t *testing.T) string{
		"inbox on postgres beside the embedded broker": func(t *testing.T) string {
			return fmt.Sprintf("sql: {dsn: %q}\n", sqldbtest.New(t, sqldb.Postgres))
		},
		"ledger on mariadb beside rabbitmq": func(t *testing.T) string {
			return fmt.Sprintf("broker: rabbitmq\nrabbitmq: {url: %q}\ndedup: {ledger: {store: mysql, dsn: %q}}\n", servers.Require(t, servers.RabbitMQ).URL, sqldbtest.New(t, sqldb.MySQL))
		},
		"ledger on redis beside rabbitmq": func(t *testing.T) string {
			address := url.URL{Scheme: "redis", Host: servers.Require(t, servers.Redis).Hosts[0]}
			return fmt.Sprintf("broker: rabbitmq\nrabbitmq: {url: %q}\ndedup: {ledger: {store: redis, dsn: %q}}\n", servers.Require(t, servers.RabbitMQ).URL, address.String())
		},
	} {
		t.Run(name, func(t *testing.T) {
			topic := uniqueTopic()
			file := writeConfig(t, "service: fulfilment\nadmin: {enabled: false}\n"+fmt.Sprintf("sqlite: {path: %q}\n", filepath.Join(t.TempDir(), "hapax.db"))+configure(t))
			shipped := make(chan string, 10)
			serve(t, file, topic, func(_ context.Context, order map[string]any) error {
				shipped <- order["id"].(string)
				return nil
			})
			for _, order := range []string{"first", "second"} { // one ID, two payloads
				_, err := run(t, "publish", topic, "-f", file, "--id", "order", "--key", "order", "--data", `{"id":"`+order+`"}`)
				require.NoError(t, err)
			}
			require.Equal(t, "first", <-shipped)
			var text string
			require.Eventually(t, func() bool {
				var err error
				text, err = run(t, "dlq", "show", topic, "order", "-f", file)
				return err == nil
			}, 30*time.Second, 100*time.Millisecond)
			require.Contains(t, text, "a mark of its ID with another payload")
			text, err := run(t, "dlq", "requeue", topic, "order", "-f", file)
			require.NoError(t, err)
			require.True(t, strings.Contains(text, "committed before: conflict 1"), text)
		})
	}
}
