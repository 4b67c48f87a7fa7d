package framework_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/internal/servers"
)

// onSQS is a config for queues that no run has used.
func onSQS(t *testing.T, broker, extra string) *config.Config {
	t.Helper()
	// The server of the tests knows no credentials, but the SDK insists on some.
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	return parse(t, fmt.Sprintf("broker: %s\nsqs: {endpoint: %q, queue_prefix: t%d-, create: true, wait_time: 0s, visibility_timeout: 2s}\ndedup: {ledger: {store: sqlite, dsn: %q}}\n%s",
		broker, servers.Require(t, servers.SQS).URL, dedup.NextToken(), filepath.Join(t.TempDir(), "ledger.db"), extra))
}

// A service on either kind of queue: each event takes effect once, and what can never
// be processed is a dead letter with its reason.
func TestServiceOnSQS(t *testing.T) {
	for name, cfg := range map[string]*config.Config{
		"sqs":                    onSQS(t, "sqs", ""),
		"sqs-fifo":               onSQS(t, "sqs-fifo", ""),
		"sqs, one topic is fifo": onSQS(t, "sqs", fmt.Sprintf("topics: {orders: {name: orders-%d.fifo}}\n", dedup.NextToken())),
	} {
		t.Run(name, func(t *testing.T) {
			service := newService(t, cfg)
			runs := &counter{}
			framework.Handle(service, "orders", func(_ context.Context, order Order) (Shipment, error) {
				runs.add(order.ID)
				return Shipment{OrderID: strings.Repeat(order.ID, len(order.Item)+1)}, nil
			}, framework.To("shipments"))
			for range 3 {
				publish(t, service, "orders", "1", Order{ID: "1"})
			}
			huge := Order{ID: strings.Repeat("x", 300), Item: strings.Repeat("x", 1000)} // its output is over the limit of SQS
			publish(t, service, "orders", "huge", huge)
			for id, payload := range map[string]string{"bad": `{"id": 7}`, "": `{}`} {
				msg := message.NewMessage("", []byte(payload))
				if id != "" {
					msg.Metadata.Set(dedup.MetaEventID, id)
				}
				require.NoError(t, service.Publisher().Publish("orders", msg))
			}
			require.NoError(t, service.Publisher().Publish("orders", emptyID()))
			stop := start(t, service)
			reasons, nameless := map[string]string{}, 0
			for _, letter := range readNamed(t, service, cfg, "orders.dead", 4) {
				id := letter.Metadata.Get(dedup.MetaEventID)
				reasons[id] = letter.Metadata.Get(dedup.MetaDeadError)
				if id == "" {
					nameless++
				}
			}
			require.Equal(t, 2, nameless, "without an ID, and with an empty one")
			require.Contains(t, reasons["bad"], "decode json as framework_test.Order")
			require.Contains(t, reasons[""], "event has no ID")
			require.Contains(t, reasons["huge"], "bytes as SQS counts them (payload 300315)")
			require.Contains(t, reasons["huge"], "set compress")
			require.Len(t, readNamed(t, service, cfg, "shipments", 1), 1)
			require.NoError(t, stop())
			require.Equal(t, 1, runs.of("1"))
		})
	}
}

// readNamed reads a topic by its logical name.
func readNamed(t *testing.T, service *framework.Service, cfg *config.Config, topic string, n int) []*message.Message {
	t.Helper()
	if named := cfg.Topics["orders"].Name; named != "" && topic == dedup.DeadLetterTopic("orders") {
		topic = dedup.DeadLetterTopic(named) // dead letters follow their topic
	}
	return read(t, service, topic, n)
}

// What is wrong with the surroundings is one clear error at start.
func TestStartErrorsOnSQS(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*config.Config)
		error  string
	}{
		"nobody listens": {func(c *config.Config) { c.SQS.Endpoint = "http://127.0.0.1:1" }, "reach sqs at http://127.0.0.1:1"},
		"unknown queue":  {func(c *config.Config) { c.SQS.Create = false }, "create it, or set sqs.create: true"},
		"impossible name": {func(c *config.Config) {
			c.Topics = map[string]config.Topic{"orders": {Name: strings.Repeat("long", 30)}}
		}, "SQS allows 1 to 80"},
	} {
		for _, broker := range []string{"sqs", "sqs-fifo"} {
			t.Run(name+", "+broker, func(t *testing.T) {
				cfg := onSQS(t, broker, "")
				test.change(cfg)
				service, err := framework.New(t.Context(), cfg)
				if err == nil {
					framework.Handle(service, "orders", func(context.Context, Order) error { return nil })
					err = service.Run(t.Context())
				}
				require.ErrorContains(t, err, test.error)
			})
		}
	}
}
