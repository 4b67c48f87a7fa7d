package dedup_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup/ledger/coalesce"
	"github.com/hapax-go/hapax/dedup/ledger/memory"
)

// Watermill's Timeout leaves its context in the message, ended, when the handler has
// returned. A mark that was asked for under it would never be made, and the event come
// again for ever.
func TestTheMarkDoesNotDependOnTheHandlersContext(t *testing.T) {
	r := newRigOn(rightOrder, coalesce.New(memory.New(memory.Config{})))
	defer r.stop()
	runs := 0
	r.handle = middleware.Timeout(time.Minute)(func(*message.Message) ([]*message.Message, error) {
		runs++
		return nil, nil
	})
	require.True(t, r.deliver(order("1")))
	require.True(t, r.deliver(order("1")))
	require.Equal(t, 1, runs)
}
