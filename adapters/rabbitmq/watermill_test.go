package rabbitmq_test

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"github.com/hapax-go/hapax/adapters/adaptertest"
)

func TestWatermillSuite(t *testing.T) {
	adaptertest.Watermill(t, harness(nil), tests.Features{
		ConsumerGroups: true,
		Persistent:     true,
		// The broker delivers at least once; a strategy makes that once.
		ExactlyOnceDelivery: false,
		// Messages without a key are handed out concurrently.
		GuaranteedOrder:                     false,
		GuaranteedOrderWithSingleSubscriber: false,
		// A queue has what was published since it exists.
		NewSubscriberReceivesOldMessages: false,
		RequireSingleInstance:            false,
		ContextPreserved:                 false,
	})
}
