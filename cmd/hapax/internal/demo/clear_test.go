package demo

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/servers"
)

// A lane has topics of its own, and takes them with it, the log of processed IDs included.
func TestALaneOnKafkaHasItsOwnTopicsAndLeavesNothing(t *testing.T) {
	server := servers.Require(t, servers.Kafka)
	client, err := kgo.NewClient(kgo.SeedBrokers(server.Hosts...), kgo.MetadataMinAge(10*time.Millisecond))
	require.NoError(t, err)
	defer client.Close()
	cfg := kafkaBroker.config(t.TempDir(), laneHapax)
	prefix := strings.TrimSuffix(cfg.Topics[topicOrders].Name, topicOrders)
	left := func() (ours []string) {
		topics, err := kadm.NewClient(client).ListTopics(t.Context())
		require.NoError(t, err)
		for _, topic := range topics.Names() {
			if strings.Contains(topic, prefix) {
				ours = append(ours, topic)
			}
		}
		return ours
	}

	require.NoError(t, kafkaBroker.prepare(t.Context(), cfg))
	l := &lane{broker: kafkaBroker, config: cfg}
	l.open, err = framework.OpenBroker(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, l.publish([]fault.Send{{Event: fault.Event{ID: "1", Key: "1"}}}))
	cfg.Admin.Enabled = false
	service, err := framework.New(t.Context(), cfg, framework.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	framework.Handle(service, topicOrders, Fulfil, framework.To(topicShipping))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- service.Run(ctx) }()
	require.Eventually(t, func() bool { return len(left()) == 3 }, 30*time.Second, 50*time.Millisecond)
	require.Eventually(t, func() bool {
		outputs, err := kafkaOutputs(t.Context(), cfg)
		return err == nil && len(outputs) == 1
	}, 30*time.Second, 50*time.Millisecond)
	behind, err := kafkaLeft(t.Context(), cfg, l.open)
	require.NoError(t, err)
	require.Contains(t, behind, topicOrders+" black-friday."+topicOrders)
	stop()
	require.NoError(t, <-ended)

	require.NoError(t, l.close())
	require.Empty(t, left())
}
