package redis_test

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"github.com/hapax-go/hapax/adapters/adaptertest"
	"github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/internal/servers"
)

func TestWatermillSuite(t *testing.T) {
	adaptertest.Watermill(t, harness(redis.Config{Addresses: servers.Require(t, servers.Redis).Hosts}), tests.Features{
		ConsumerGroups: true,
		Persistent:     true,
		// The broker delivers at least once; a strategy makes that once.
		ExactlyOnceDelivery: false,
		// Messages without a key are handed out concurrently. In order are those
		// with the same key.
		GuaranteedOrder: false,
		// The suite's subscribers share one group here, and a group gets each
		// message once. New groups do begin with the old messages.
		NewSubscriberReceivesOldMessages: false,
		// A message crosses a network.
		ContextPreserved: false,
	})
}
