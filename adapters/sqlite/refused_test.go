package sqlite_test

import (
	"fmt"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/outbox/inbox"
)

// Subscriptions share the writer's transaction with handlers. What COMMIT refuses of one
// handler's rows fails that handler, not the start of the others.
func TestASubscriptionDoesNotFailBesideAHandlerWhoseCommitDoes(t *testing.T) {
	broker := openBroker(t, file(t), nil)
	for _, table := range []string{
		"CREATE TABLE parents (name TEXT PRIMARY KEY)",
		"CREATE TABLE children (parent TEXT REFERENCES parents (name) DEFERRABLE INITIALLY DEFERRED)",
	} {
		_, err := broker.DB().Exec(table)
		require.NoError(t, err)
	}
	for i := range 20 {
		publish(t, broker, event(fmt.Sprint(i), fmt.Sprint(i)))
	}
	stop := serve(t, broker, func(msg *message.Message) ([]*message.Message, error) {
		tx, err := inbox.Tx(msg.Context())
		if err == nil {
			_, err = tx.ExecContext(msg.Context(), "INSERT INTO children VALUES ('nobody')")
		}
		return nil, err
	}, func(s *adapters.Subscription) { s.MaxDeliveries = -1 })
	defer stop()
	for i := range 60 {
		subscribe(t, broker, fmt.Sprint("topic", i), nil)
	}
}
