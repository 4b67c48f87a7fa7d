package adaptertest

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
)

// Watermill runs Watermill's own suite for Pub/Subs. The features say what the
// broker can do in the suite's terms; give a reason beside each that is false.
//
// The suite takes messages and closes the subscriber without acking them, and it
// nacks hundreds of times: so the subscriptions here drain briefly, and have no
// limit of deliveries.
func Watermill(t *testing.T, harness Harness, features tests.Features) {
	open := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		broker := harness.Open(t)
		t.Cleanup(func() { require.NoError(t, broker.Close()) })
		subscriber, err := broker.Subscriber(adapters.Subscription{
			Group: group, RedeliveryDelay: time.Millisecond, DrainTimeout: 500 * time.Millisecond, MaxDeliveries: -1,
		})
		require.NoError(t, err)
		return broker.Publisher(), subscriber
	}
	tests.TestPubSub(t, features, func(t *testing.T) (message.Publisher, message.Subscriber) {
		return open(t, "watermill-suite")
	}, open)
}
