package sqlite_test

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqlite"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func TestWatermillSuite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "suite.db")
	open := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		broker, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Synchronous: sqldb.Normal, Logger: quiet})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, broker.Close()) })
		subscriber, err := broker.Subscriber(adapters.Subscription{
			Group: group, RedeliveryDelay: time.Millisecond, DrainTimeout: time.Second,
			MaxDeliveries: -1, // the suite nacks hundreds of times
		})
		require.NoError(t, err)
		return broker.Publisher(), subscriber
	}
	tests.TestPubSub(t, tests.Features{
		ConsumerGroups: true,
		Persistent:     true,
		// The broker delivers at least once; a strategy makes that once.
		ExactlyOnceDelivery: false,
		// Messages without a key are handed out concurrently. In order are those
		// with the same key.
		GuaranteedOrder:                     false,
		GuaranteedOrderWithSingleSubscriber: false,
		// The suite's subscribers share one group here, and a group gets each
		// message once. New groups do begin with the old messages.
		NewSubscriberReceivesOldMessages: false,
		// A message crosses a file.
		ContextPreserved: false,
	}, func(t *testing.T) (message.Publisher, message.Subscriber) { return open(t, "suite") }, open)
}
