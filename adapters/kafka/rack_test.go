package kafka_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
)

// A consumer tells the broker its rack, so that it may read from a replica there, and
// its name, for people.
func TestRackAndClientIDAreTold(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	require.NoError(t, err)
	defer cluster.Close()
	racks := make(chan string, 1)
	cluster.ControlKey(kmsg.Fetch.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		select {
		case racks <- request.(*kmsg.FetchRequest).Rack:
		default:
		}
		return nil, nil, false
	})
	config := fast(cluster.ListenAddrs())
	config.Rack, config.ClientID = "cellar", "shop-7"
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group"})
	require.NoError(t, err)
	topic := newTopic(t)
	require.NoError(t, subscriber.(message.SubscribeInitializer).SubscribeInitialize(topic))
	_, err = subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	select {
	case rack := <-racks:
		require.Equal(t, "cellar", rack)
	case <-time.After(20 * time.Second):
		require.Fail(t, "no fetch")
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	require.NoError(t, err)
	defer client.Close()
	groups, err := kadm.NewClient(client).DescribeGroups(t.Context(), "group")
	require.NoError(t, err)
	require.Len(t, groups["group"].Members, 1)
	require.Contains(t, groups["group"].Members[0].ClientID, "shop-7")
}
