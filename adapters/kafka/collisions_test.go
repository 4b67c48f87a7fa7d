package kafka_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/dedup"
)

// Kafka would make the first topic and refuse the second, most often with the first message.
func TestChecksFindTopicsThatDifferInDotsAndUnderscores(t *testing.T) {
	t.Parallel()
	broker, err := kafka.Open(t.Context(), fast(fakeKafka(t, kfake.SeedTopics(1, "both.there", "both_there"))))
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	use := func(handler, topic string) adapters.Use {
		return adapters.Use{
			Topic: topic, Group: "shop." + handler, Strategy: dedup.StrategyTransaction, Window: time.Hour, MaxDeliveries: -1,
		}
	}
	for _, test := range []struct {
		name          string
		first, second adapters.Use
		check, about  string
	}{
		{"handlers of one topic", use("new.order", "orders"), use("new_order", "orders"), "kafka-id-log", "shop.new_order.orders.hapax-ids"},
		{"topics", use("a", "new.orders"), use("b", "new_orders"), "kafka-topic", "new_orders"},
		{"a group's part and a topic's", use("a.b", "c"), use("a", "b_c"), "kafka-id-log", "shop.a.b_c.hapax-ids"},
		{"a topic and the dead letters of another", use("x", "letters_dead"), func() adapters.Use {
			other := use("y", "orders")
			other.DeadLetter = "letters.dead"
			return other
		}(), "kafka-topic", "letters.dead"},
		{"one log for two, whose IDs do not mix", use("a.b", "c"), use("a", "b.c"), "", ""},
		{"handlers of two topics", use("new.order", "orders"), use("new_order", "letters"), "", ""},
		{"topics that are there", use("a", "both.there"), use("b", "both_there"), "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var found []adapters.Finding
			for _, finding := range broker.Checks(t.Context(), []adapters.Use{test.first, test.second}) {
				if finding.Fatal && finding.Name != "kafka-retention" {
					found = append(found, finding)
				}
			}
			if test.check == "" {
				require.Empty(t, found)
				return
			}
			require.Len(t, found, 1)
			require.Equal(t, test.check, found[0].Name)
			require.Equal(t, test.about, found[0].About)
			require.Contains(t, found[0].Problem, "dots and underscores")
		})
	}
}
