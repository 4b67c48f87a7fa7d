package framework_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/hapax-go/hapax/adapters/kafka/raw"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/internal/servers"
)

// onKafka is a config on a Kafka in this process.
func onKafka(t *testing.T, extra string) (cfg *config.Config, brokers []string) {
	t.Helper()
	servers.RanInProcess(t, "kafka", "kfake")
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	brokers = cluster.ListenAddrs()
	return parse(t, fmt.Sprintf("broker: kafka\nkafka: {brokers: [%q], create_topics: true, partitions: 1}\n", strings.Join(brokers, `", "`))+extra), brokers
}

// A topic may be called at the broker what another one is called in the code, and as Kafka's
// naming rule would not call any.
func TestTopicsOfKafkaAreCalledAsTheConfigSays(t *testing.T) {
	cfg, brokers := onKafka(t, `topics:
  orders: {name: shipments}
  shipments: {name: builds_x64}
`)
	service := newService(t, cfg)
	framework.Handle(service, "orders", func(_ context.Context, order Order) (Shipment, error) {
		return Shipment{OrderID: order.ID}, nil
	}, framework.To("shipments"))
	publish(t, service, "orders", "1", Order{ID: "1"})
	stop := start(t, service)
	find := func(topic, part string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		require.Eventually(t, func() bool {
			values, err := raw.Values(ctx, brokers, topic)
			return err == nil && len(values) == 1 && strings.Contains(string(values[0]), part)
		}, patience, 20*time.Millisecond, "topic %s", topic)
	}
	find("shipments", `"item"`)
	find("builds_x64", `"order_id"`)
	require.NoError(t, stop())
}

// An event that has just fitted fails: its letter says more than the event did, and fits too.
func TestTheLetterOfALargeEventFits(t *testing.T) {
	const payload = 100_000
	cfg, _ := onKafka(t, "consumer: {max_deliveries: -1}\n")
	cfg.Kafka.MaxPayload = payload + 200
	service := newService(t, cfg)
	framework.Handle(service, "orders", func(context.Context, Order) error {
		panic(strings.Repeat("no such customer, ", 200))
	})
	publish(t, service, "orders", "1", Order{Item: strings.Repeat("x", payload-len(`{"id":"","item":""}`))})
	stop := start(t, service)
	letter := read(t, service, "orders.dead", 1)[0]
	require.Len(t, letter.Payload, payload)
	require.Contains(t, letter.Metadata.Get(dedup.MetaDeadError), "no such customer")
	require.NotEmpty(t, letter.Metadata.Get(dedup.MetaDeadStack))
	require.NoError(t, stop())
}
