package sqlite_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/adaptertest"
	"github.com/hapax-go/hapax/adapters/sqlite"
)

func harness(t *testing.T, lease time.Duration) adaptertest.Harness {
	path := file(t)
	var topics atomic.Int64
	return adaptertest.Harness{
		Open: func(t *testing.T) adapters.Broker {
			return openBroker(t, path, func(c *sqlite.Config) { c.LeaseDuration = lease })
		},
		Topic:   func(*testing.T) string { return fmt.Sprint("topic-", topics.Add(1)) },
		Abandon: func(_ *testing.T, broker adapters.Broker) { sqlite.Abandon(broker.(*sqlite.Broker)) },
		Freeze:  func(_ *testing.T, broker adapters.Broker) { sqlite.Freeze(broker.(*sqlite.Broker)) },
	}
}

// The lease is what taking over waits for; a member that a busy machine keeps from its
// heartbeat for as long loses what it has, and the suite sees redeliveries.
func TestSuite(t *testing.T) { adaptertest.Run(t, harness(t, 5*time.Second)) }

func TestWatermillSuite(t *testing.T) {
	adaptertest.Watermill(t, harness(t, time.Minute), tests.Features{
		ConsumerGroups: true,
		Persistent:     true,
		// The broker delivers at least once; a strategy makes that once.
		ExactlyOnceDelivery: false,
		// Messages without a key are handed out concurrently. In order are those
		// with the same key.
		GuaranteedOrder:                     false,
		GuaranteedOrderWithSingleSubscriber: false,
		// The suite's subscribers share one group here, and a group gets each
		// message once. A new group does begin with the old messages.
		NewSubscriberReceivesOldMessages: false,
		// A message crosses a file.
		ContextPreserved: false,
	})
}
